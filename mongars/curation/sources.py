"""Where the conversations to curate come from: files, or the repository directly.

A source cuts its conversations into parts on the driver; `read` turns a part into records on a Ray worker.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from mongars.errors import DatasetRefusedError, InputError
from mongars.formats.jsonl import BadLine, encode_conversation, parse_line
from mongars.formats.shards import Shard, check_source, count_lines, file_shards, place_of
from mongars.records import Conversation
from mongars.storage.digests import file_digest

Part = Mapping[str, Any]
"""Plain values, because Ray Data moves a part as a row."""
Reader = Callable[[Part], Iterator[tuple[int, Conversation | BadLine]]]

# Limits of a part of the repository: large enough to pay for a task, small enough to keep several in memory.
MIN_PART_ROWS, MAX_PART_ROWS = 256, 4_096
MAX_PART_BYTES = 4 * 2**20
# Parts in a list, for each parallel task.
PARTS_PER_TASK = 4
_REPOSITORY = Path("repository")


class ConversationSource(Protocol):
    """Conversations to curate. Each has a key: an integer that orders all conversations of the source."""

    read: Reader
    """Yield (key, conversation or bad line) of a part. A plain function, because it is sent to the workers."""

    def check(self) -> None:
        """Raise InputError or DatasetRefusedError for a source that cannot be curated."""
        ...

    def count(self) -> int:
        """Return the approximate number of conversations, for the progress display."""
        ...

    def portions(self, tasks: int) -> Iterator[list[Part]]:
        """Yield lists of parts for `tasks` parallel tasks. Each list is read when the caller needs it."""
        ...

    def digests(self) -> list[str]:
        """Return the sha256 digests of what `portions` has read."""
        ...

    def place(self, key: int) -> tuple[str, int]:
        """Return a name and a line number for a key, to report a bad line."""
        ...


def read_shard(part: Part) -> Iterator[tuple[int, Conversation | BadLine]]:
    """Yield the conversations of a file's shard."""
    return Shard(**part).conversations()


def read_batch(part: Part) -> Iterator[tuple[int, Conversation | BadLine]]:
    """Yield the conversations of a batch that was read from the repository."""
    for number, line in enumerate(part["lines"], start=part["first"]):
        item = parse_line(_REPOSITORY, number, line)
        if item is not None:
            yield number, item


class FileSource:
    """Files of JSON Lines or Parquet, which every worker must be able to read."""

    read: Reader = staticmethod(read_shard)

    def __init__(self, paths: Sequence[Path]) -> None:
        self._named = tuple(paths)
        self._paths = [path.resolve() for path in paths]

    def check(self) -> None:
        """Raise InputError for a file that cannot be read, or when there is none."""
        if not self._paths:
            raise InputError(
                "No source to curate.", remedy="Name at least one .jsonl, .jsonl.gz or .parquet file."
            )
        for path in self._paths:
            check_source(path)

    def count(self) -> int:
        """Return the number of lines and rows."""
        return sum(map(count_lines, self._paths))

    def portions(self, tasks: int) -> Iterator[list[Part]]:
        """Yield the shards of all files at once: they name lines and hold no text."""
        yield [asdict(shard) for shard in file_shards(self._paths, tasks=tasks)]

    def digests(self) -> list[str]:
        """Return the digest of each file."""
        return list(map(file_digest, self._paths))

    def place(self, key: int) -> tuple[str, int]:
        """Return the file, as the caller named it, and the line number."""
        file, line = place_of(key)
        return str(self._named[file]), line


class ConsentedConversations(Protocol):
    """The part of PersistenceRepository that curation uses."""

    def count_consented(self) -> int:
        """Return how many conversations may be trained on."""
        ...

    def consented(self) -> Iterator[Conversation]:
        """Yield the conversations that may be trained on, in order of id."""
        ...


class RepositorySource:
    """The consented conversations of a repository, read on the driver and handed to the workers in memory.

    Only the driver opens the database. No file contains the original text, unless Ray spills its object store.
    """

    read: Reader = staticmethod(read_batch)

    def __init__(self, repository: ConsentedConversations) -> None:
        self._repository = repository
        self._digest = hashlib.sha256()

    def check(self) -> None:
        """Raise DatasetRefusedError when no conversation may be trained on."""
        if not self.count():
            raise DatasetRefusedError(
                "No conversation may be trained on.",
                remedy="Add some whose user consents, with: mongars ingest FILE.jsonl",
            )

    def count(self) -> int:
        """Return the number of consented conversations."""
        return self._repository.count_consented()

    def portions(self, tasks: int) -> Iterator[list[Part]]:
        """Yield batches of conversations; only one list of them is in memory."""
        rows = max(MIN_PART_ROWS, min(MAX_PART_ROWS, -(-self.count() // tasks)))
        self._digest = hashlib.sha256()
        parts: list[Part] = []
        for part in self._batches(rows):
            parts.append(part)
            if len(parts) == PARTS_PER_TASK * tasks:
                yield parts
                parts = []
        if parts:
            yield parts

    def _batches(self, rows: int) -> Iterator[Part]:
        lines, size, first = list[bytes](), 0, 1
        for number, conversation in enumerate(self._repository.consented(), start=1):
            line = encode_conversation(conversation)
            self._digest.update(line)
            lines.append(line)
            size += len(line)
            if len(lines) == rows or size >= MAX_PART_BYTES:
                yield {"first": first, "lines": lines}
                lines, size, first = [], 0, number + 1
        if lines:
            yield {"first": first, "lines": lines}

    def digests(self) -> list[str]:
        """Return one digest of the conversations read, in order of id."""
        return [self._digest.hexdigest()]

    def place(self, key: int) -> tuple[str, int]:
        """Return "repository" and the position of a conversation among the consented ones."""
        return str(_REPOSITORY), key
