"""Save conversations in the repository."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mongars.errors import InputError, RefusedError
from mongars.formats.jsonl import BadLine, read_conversations
from mongars.records import Conversation
from mongars.settings import Settings
from mongars.workflows.wiring import SILENT, Progress, open_repository

Source = tuple[str, Iterable[Conversation | BadLine]]
"""The name of a source, for messages, and what was read from it."""
_UPDATE_EVERY = 100


@dataclass(frozen=True, slots=True)
class Ingested:
    """How many conversations were new, extended, unchanged or refused, and how many lines were unreadable.

    `withdrawn` counts those whose consent was withdrawn, whatever else became of them.
    """

    new: int = 0
    extended: int = 0
    known: int = 0
    withdrawn: int = 0
    bad_lines: int = 0
    refused: int = 0

    @property
    def problems(self) -> int:
        """Return how many lines and conversations were left out."""
        return self.bad_lines + self.refused


def read_files(files: Sequence[Path]) -> list[Source]:
    """Return JSON Lines files as sources. Raises InputError when one cannot be read."""
    return [(str(path), read_conversations(path)) for path in files]


def ingest(settings: Settings, sources: Iterable[Source], progress: Progress = SILENT) -> Ingested:
    """Save what is new in each conversation; report a line or one that cannot be saved, and continue."""
    repository = open_repository(settings)
    new = extended = known = withdrawn = bad_lines = refused = 0
    for name, items in sources:
        for item in items:
            if isinstance(item, BadLine):
                bad_lines += 1
                progress.warn(f"{item.path}:{item.line}: {item.reason}")
                continue
            try:
                saved = repository.save_conversation(item)
            except (InputError, RefusedError) as error:
                refused += 1
                progress.warn(f"{name}: conversation {item.id!r}: {error}")
                continue
            if saved.differs:
                refused += 1
                progress.warn(
                    f"{name}: conversation {item.id!r} is stored with other turns and was left as it is."
                )
            new += saved.new
            extended += bool(saved.appended) and not saved.new
            known += not (saved.new or saved.appended or saved.differs)
            withdrawn += saved.withdrawn
            if (done := new + extended + known) % _UPDATE_EVERY == 0:
                progress.update(done)
    progress.update(new + extended + known)
    return Ingested(new, extended, known, withdrawn, bad_lines, refused)
