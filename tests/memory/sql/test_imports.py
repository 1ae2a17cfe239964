"""Conversations that are imported again, on a real SQLite and on a real PostgreSQL."""

import pytest

from mongars.memory.sql.imports import Saved
from mongars.records import ChatRef, Conversation, Turn


def grown(turns: int, *, consent: bool = True, last: str | None = None) -> Conversation:
    """Return the conversation c of anna after so many turns; `last` replaces the text of the last one."""
    texts = [f"turn {n}" for n in range(turns)]
    texts[-1:] = [last or texts[-1]]
    said = tuple(Turn("user" if n % 2 == 0 else "assistant", text) for n, text in enumerate(texts))
    return Conversation("c", "anna", said, consent=consent)


def stored(repository) -> list[str]:
    (kept,) = repository.export_user("anna")
    return [turn.content for turn in kept.turns]


def test_a_conversation_that_has_grown_is_extended(repository):
    assert repository.save_conversation(grown(2)) == Saved(new=True, appended=2)
    assert repository.save_conversation(grown(5)) == Saved(appended=3)
    assert repository.save_conversation(grown(3)) == Saved(), "an older copy"
    assert stored(repository) == [f"turn {n}" for n in range(5)]
    sent = grown(5).turns[:4]
    assert repository.open_chat("anna", ChatRef(sent=sent), Turn("user", "turn 4"))[0] == "c"


def test_a_conversation_with_other_turns_is_left_as_it_is(repository):
    repository.save_conversation(grown(3))
    assert repository.save_conversation(grown(3, last="something else")) == Saved(differs=True)
    assert stored(repository) == ["turn 0", "turn 1", "turn 2"]


@pytest.mark.parametrize(
    ("copy", "saved"),
    [
        (grown(2, consent=False), Saved(withdrawn=True)),
        (grown(3, consent=False), Saved(appended=1, withdrawn=True)),
        (grown(2, consent=False, last="something else"), Saved(withdrawn=True, differs=True)),
    ],
)
def test_consent_that_a_copy_does_not_give_is_withdrawn(repository, copy, saved):
    repository.save_conversation(grown(2))
    assert repository.save_conversation(copy) == saved
    assert list(repository.consented()) == []
    repository.save_conversation(grown(3))
    assert list(repository.consented()) == [], "a copy from before does not give it again"


def test_what_is_imported_is_handed_to_the_index_once(repository):
    assert repository.take_unindexed() == []
    repository.save_conversation(grown(2))
    repository.append_turns("chat", "anna", grown(2).turns)
    assert [memory.text for memory in repository.take_unindexed()] == ["turn 0", "turn 1"]
    repository.save_conversation(grown(2))
    assert repository.take_unindexed() == []
    repository.save_conversation(grown(3))
    assert len(repository.take_unindexed()) == 3
    repository.save_conversation(grown(4))
    repository.delete_conversation("anna", "c")
    assert repository.take_unindexed() == []
