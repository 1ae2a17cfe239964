"""The staging file: what was consented, in order, and nothing of it readable by others."""

from collections.abc import Iterator
from pathlib import Path

from mongars.evolution.harvest import harvest
from mongars.formats.jsonl import read_conversations
from mongars.records import Conversation, Turn


class Repository:
    def __init__(self, *names: str) -> None:
        self.names = names

    def consented(self) -> Iterator[Conversation]:
        for name in self.names:
            yield Conversation(name, "ann", (Turn("user", "hello"), Turn("assistant", "hi")), consent=True)


def test_a_harvest_holds_every_consented_conversation(tmp_path: Path) -> None:
    made = harvest(Repository("c1", "c2"), tmp_path / "staging")
    assert made.conversations == 2
    assert [conversation.id for conversation in read_conversations(made.path)] == ["c1", "c2"]


def test_the_same_conversations_give_the_same_digest(tmp_path: Path) -> None:
    first, second = (harvest(Repository("c1"), tmp_path / folder) for folder in ("a", "b"))
    assert first.digest == second.digest
    assert harvest(Repository("c2"), tmp_path / "a").digest != first.digest


def test_only_the_owner_can_look_into_the_staging_folder(tmp_path: Path) -> None:
    made = harvest(Repository("c1"), tmp_path / "staging")
    assert made.path.parent.stat().st_mode & 0o077 == 0


def test_an_empty_repository_gives_an_empty_harvest(tmp_path: Path) -> None:
    assert harvest(Repository(), tmp_path / "staging").conversations == 0
