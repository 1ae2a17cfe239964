"""Conversations and texts as JSON Lines, plain or gzip.

A line that cannot be read becomes a `BadLine`, not an exception, so that the rest of the file is still used. Its
reason never contains text of a message, because reasons are printed and logged.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from mongars.errors import InputError
from mongars.formats.schema import UnreadableError, as_conversation, identity_of, text_of
from mongars.records import Conversation, Profile
from mongars.storage.atomic import replacing

# Bounds the memory of a reader. A conversation of 64 MiB would have about ten million words.
MAX_LINE_BYTES = 64 * 1024 * 1024
# Lines in a group when several readers share a file, see `numbered_lines`.
STRIPE_LINES = 64
PARQUET_MAGIC = b"PAR1"
Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that could not be read; `line` counts from 1."""

    path: str
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Text:
    """A text without a speaker, its id and its position; `line` counts from 1."""

    path: str
    line: int
    id: str
    text: str


def read_conversations(path: Path) -> Iterator[Conversation | BadLine]:
    """Yield every conversation or bad line of a file, in order; blank lines are skipped.

    Raises InputError at once when the file cannot be read.
    """
    check_readable(path)
    return (item for number, line in numbered_lines(path) if (item := parse_line(path, number, line)) is not None)


def read_texts(path: Path) -> Iterator[Text | BadLine]:
    """Yield every text (`{"id", "text"}`) or bad line of a file, as `read_conversations` does."""
    check_readable(path)
    return (item for number, line in numbered_lines(path) if (item := _text_line(path, number, line)) is not None)


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> int:
    """Write conversations for `read_conversations`, atomically; return how many."""
    return write_lines(path, map(_as_line, conversations))


def write_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> int:
    """Write JSON objects, one per line, atomically; return how many.

    A path that ends in `.gz` is compressed. The same objects give the same bytes.
    """
    count = 0
    with replacing(path) as raw:
        # A fixed time and no name in the gzip header, so that equal content is equal bytes.
        stream = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw
        for value in values:
            stream.write(_encoded(value))
            count += 1
        if stream is not raw:
            stream.close()
    return count


def encode_conversation(conversation: Conversation) -> bytes:
    """Return the line that `write_conversations` writes."""
    return _encoded(_as_line(conversation))


def _encoded(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8") + b"\n"


def check_readable(path: Path) -> None:
    """Raise InputError, with the remedy, when `path` is not a file that this process can read."""
    try:
        with path.open("rb") as stream:
            head = stream.read(4)
    except OSError as error:
        raise InputError(
            f"Cannot read {path}: {error.strerror or error}.",
            remedy="Give the path of a .jsonl or .jsonl.gz file that this user may read.",
            param="input",
        ) from error
    is_gzip = head.startswith(b"\x1f\x8b")
    if path.suffix == ".gz" and head and not is_gzip:
        raise InputError(f"{path} is named .gz but is not gzip.", remedy="Rename it to .jsonl.", param="input")
    if path.suffix != ".gz" and is_gzip:
        raise InputError(f"{path} is gzip but is not named .gz.", remedy="Rename it to .jsonl.gz.", param="input")
    if head == PARQUET_MAGIC:
        remedy = "Curation reads it, as a file named .parquet."
        raise InputError(f"{path} is Parquet, not JSON Lines.", remedy=remedy, param="input")


def numbered_lines(path: Path, *, stripe: int = 0, stripes: int = 1) -> Iterator[tuple[int, bytes | BadLine]]:
    """Yield (line number from 1, raw line) of one of `stripes` interleaved stripes of a file.

    Every reader scans the whole file, which is cheap compared to curation, and keeps every `stripes`-th group of
    STRIPE_LINES lines. So line numbers are exact, and gzip files, which have no random access, can be shared too.
    """
    with _open(path) as stream:
        number = 0
        while True:
            number += 1
            ours = (number - 1) // STRIPE_LINES % stripes == stripe
            try:
                line = stream.readline(MAX_LINE_BYTES)
                too_long = len(line) == MAX_LINE_BYTES and not line.endswith(b"\n")
                if too_long:
                    _skip_line(stream)
            except (EOFError, OSError, zlib.error):
                if ours:
                    yield number, BadLine(str(path), number, "the compressed data is damaged from here on")
                return
            if not line:
                return
            if ours:
                reason = f"longer than {MAX_LINE_BYTES} bytes"
                yield number, BadLine(str(path), number, reason) if too_long else line


def parse_line(path: Path, number: int, line: bytes | BadLine) -> Conversation | BadLine | None:
    """Return the conversation or bad line of a raw line, None for a blank one."""
    return _parsed(path, number, line, as_conversation)


def _text_line(path: Path, number: int, line: bytes | BadLine) -> Text | BadLine | None:
    return _parsed(path, number, line, lambda value: Text(str(path), number, identity_of(value), text_of(value)))


def _parsed(
    path: Path, number: int, line: bytes | BadLine, as_record: Callable[[dict[str, Any]], Record]
) -> Record | BadLine | None:
    if isinstance(line, BadLine):
        return line
    if not line.strip():
        return None
    if b"\0" in line:  # may be valid UTF-8, but JSON writes it as \u0000
        return BadLine(str(path), number, "a null byte: UTF-16 or not text; convert it to UTF-8")
    try:
        # A byte order mark is legal only at the start of a file.
        return as_record(_object(json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))))
    except (ValueError, RecursionError) as error:
        return BadLine(str(path), number, _reason(error))


def _reason(error: ValueError | RecursionError) -> str:
    match error:
        case UnreadableError():
            return str(error)
        case UnicodeDecodeError():
            return f"not UTF-8 at byte {error.start + 1}"
        case json.JSONDecodeError():
            return f"not JSON: {error.msg} at column {error.colno}"
        case RecursionError():
            return "nested too deep"
    return "not JSON: a number is too long"  # the one other ValueError of json: Python's limit on digits


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _skip_line(stream: BinaryIO) -> None:
    while (piece := stream.readline(MAX_LINE_BYTES)) and not piece.endswith(b"\n"):
        pass


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnreadableError("not a JSON object")
    return value


def _as_line(conversation: Conversation) -> dict[str, Any]:
    line: dict[str, Any] = {
        "id": conversation.id,
        "source": conversation.source,
        "user": conversation.user,
        "consent": conversation.consent,
    }
    if conversation.created_at:
        line["created_at"] = conversation.created_at.isoformat()
    line["messages"] = [
        {"role": turn.role, "content": turn.content}
        | ({"created_at": turn.created_at.isoformat()} if turn.created_at else {})
        for turn in conversation.turns
    ]
    if conversation.opinions:
        line["opinions"] = [asdict(opinion) for opinion in conversation.opinions]
    if conversation.profile != Profile():
        line["profile"] = asdict(conversation.profile)
    return line
