"""Harvest: the conversations that may be trained on, in one staging file for curation.

Owns the staging file. Must not know what curation keeps of it, and looks at no text.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mongars.formats.jsonl import write_conversations
from mongars.records import Conversation
from mongars.storage.atomic import private_folder
from mongars.storage.digests import file_digest

STAGING_FILE = "consented.jsonl"


class ConsentedConversations(Protocol):
    """The part of PersistenceRepository that a harvest may see."""

    def consented(self) -> Iterator[Conversation]:
        """Yield the conversations whose user allowed training, in order of id."""
        ...


@dataclass(frozen=True, slots=True)
class Harvest:
    """A staging file, how many conversations it holds, and the sha256 of its bytes."""

    path: Path
    conversations: int
    digest: str


def harvest(repository: ConsentedConversations, folder: Path) -> Harvest:
    """Write every consented conversation to `<folder>/consented.jsonl`, atomically.

    The order is that of the ids, so the same conversations give the same digest. The file holds personal text as
    it was said: the folder is made readable by its owner alone, and the caller removes the file after curation.
    """
    private_folder(folder)
    path = folder / STAGING_FILE
    count = write_conversations(path, repository.consented())
    return Harvest(path, count, file_digest(path))
