"""Conversations in Parquet files, one per row, with the fields of JSON Lines as columns.

Required columns: `id` and `messages` (a list of structs with `role` and `content`). Optional ones: `user`,
`source`, `consent`, `created_at`, `opinions`, `profile`. Others are ignored. A row that cannot be read becomes a
`BadLine` with the row's number.

A file can contain pickles as Arrow extension types. If the library that wrote them is loaded (Ray Data in a
worker), opening the file runs its deserialiser (CVE-2026-41486, CVE-2026-57516, CVE-2023-47248). So we inspect the
Arrow schema in the footer before pyarrow builds it, and refuse files with such types.
"""

import base64
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mongars.errors import InputError
from mongars.formats.jsonl import MAX_LINE_BYTES, PARQUET_MAGIC, STRIPE_LINES, BadLine
from mongars.formats.schema import UnreadableError, as_conversation
from mongars.records import Conversation

NEEDED = ("id", "messages")
OPTIONAL = ("user", "source", "consent", "created_at", "opinions", "profile")
# Rows are decoded in batches of about this size, estimated from the average of their row group.
BATCH_BYTES = 16 * 1024 * 1024
_READ_BYTES = 1024 * 1024
_TAIL_BYTES = 8  # the length of the footer in four bytes, little-endian, and the magic
# The footer key under which pyarrow looks for a schema to build, and a replacement of equal length.
_ARROW_SCHEMA = b"ARROW:schema"
_LEFT_ALONE = b"LEFT-ALONE!!"
_EXTENSION = b"ARROW:extension:name"
# What pyarrow raises for damaged files; a name or text that is not UTF-8 is a ValueError.
_DAMAGE = (OSError, ValueError, pa.ArrowException)


def is_parquet(path: Path) -> bool:
    """Report whether the name of a file ends in `.parquet`."""
    return path.suffix == ".parquet"


def check_parquet(path: Path) -> None:
    """Raise InputError, with the remedy, for a file that is not Parquet, lacks a column or may contain code."""
    _opened(path).close()


def parquet_rows(path: Path) -> int:
    """Return the number of rows of a file. Raises as `check_parquet` does."""
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def numbered_rows(
    path: Path, *, stripe: int = 0, stripes: int = 1
) -> Iterator[tuple[int, Conversation | BadLine]]:
    """Yield (row number from 1, conversation or bad row) of one of `stripes` interleaved stripes of a file.

    The stripes are those of `jsonl.numbered_lines`; every reader decodes all rows and makes records of its own
    ones. A damaged row group gives one bad row, which names the lost rows. Raises as `check_parquet` does.
    """
    with _opened(path) as file:
        columns = [name for name in (*NEEDED, *OPTIONAL) if name in file.schema_arrow.names]
        first = 1
        for group in range(file.num_row_groups):
            end = first + file.metadata.row_group(group).num_rows
            for number, row in _rows(file, group, columns, range(first, end)):
                if (number - 1) // STRIPE_LINES % stripes == stripe:
                    yield number, _read(path, number, row, end)
            first = end


def _rows(
    file: pq.ParquetFile, group: int, columns: list[str], numbers: range
) -> Iterator[tuple[int, pa.RecordBatch | None]]:
    """Yield (number, batch of only that row) of a row group, with None as the batch of the first lost row."""
    average = file.metadata.row_group(group).total_byte_size // max(1, len(numbers))
    size = max(1, min(STRIPE_LINES, BATCH_BYTES // max(1, average)))
    number = numbers.start
    with suppress(*_DAMAGE):  # the rows not read are reported below
        for batch in file.iter_batches(size, row_groups=[group], columns=columns):
            for place in range(min(batch.num_rows, numbers.stop - number)):
                yield number, batch.slice(place, 1)
                number += 1
    if number < numbers.stop:
        yield number, None


def _read(path: Path, number: int, row: pa.RecordBatch | None, end: int) -> Conversation | BadLine:
    if row is None:
        return BadLine(str(path), number, f"the data of the rows {number} to {end - 1} is damaged")
    if row.nbytes > MAX_LINE_BYTES:
        return BadLine(str(path), number, f"longer than {MAX_LINE_BYTES} bytes")
    try:
        return as_conversation(row.to_pylist()[0])
    except UnreadableError as error:
        return BadLine(str(path), number, str(error))
    except UnicodeDecodeError:
        return BadLine(str(path), number, "a text is not UTF-8")
    except (ValueError, OverflowError):  # of the values of a row, only times can still fail
        return BadLine(str(path), number, "a time before the year 1 or after 9999")


def _opened(path: Path) -> pq.ParquetFile:
    _refuse_extension_types(path, _footer(path))
    try:
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=_READ_BYTES)
    except _DAMAGE:
        raise _not_parquet(path) from None
    if (
        sum(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))
        != file.metadata.num_rows
    ):
        raise _not_parquet(path)
    _check_columns(path, file.schema_arrow)
    return file


def _footer(path: Path) -> bytes:
    """Return the serialised metadata at the end of a file."""
    try:
        with path.open("rb") as stream:
            magic = stream.read(len(PARQUET_MAGIC))
            end = stream.seek(0, 2)
            stream.seek(max(0, end - _TAIL_BYTES))
            tail = stream.read(_TAIL_BYTES)
            size = int.from_bytes(tail[:4], "little")
            if magic != PARQUET_MAGIC or tail[4:] != PARQUET_MAGIC or size + _TAIL_BYTES > end:
                raise _not_parquet(path)
            stream.seek(end - _TAIL_BYTES - size)
            return stream.read(size)
    except OSError as error:
        raise InputError(
            f"Cannot read {path}: {error.strerror or error}.",
            remedy="Give the path of a .parquet file that this user may read.",
            param="input",
        ) from error


def _refuse_extension_types(path: Path, footer: bytes) -> None:
    """Raise InputError when the Arrow schema in a footer has an extension type or cannot be inspected."""
    renamed = footer.replace(_ARROW_SCHEMA, _LEFT_ALONE)
    alone = b"".join((PARQUET_MAGIC, renamed, len(renamed).to_bytes(4, "little"), PARQUET_MAGIC))
    try:
        metadata = pq.read_metadata(pa.BufferReader(alone)).metadata or {}
        schema = base64.b64decode(metadata.get(_LEFT_ALONE, b""), validate=True)
    except _DAMAGE:
        raise _not_parquet(path) from None
    # With two schemas, pyarrow could show one and build the other.
    if _EXTENSION in schema or footer.count(_ARROW_SCHEMA) > 1:
        raise InputError(
            f"{path} has columns of Arrow extension types, which can contain code as pickles.",
            remedy=f"Write it again with plain columns only: {', '.join((*NEEDED, *OPTIONAL))}.",
            param="input",
        )


def _check_columns(path: Path, schema: pa.Schema) -> None:
    names = ", ".join(f"`{name}`" for name in NEEDED if schema.names.count(name) != 1)
    if names:
        raise InputError(
            f"{path} lacks a column (or has it twice): {names}.",
            remedy="Name the columns id and messages (a list of structs with role and content).",
            param="input",
        )
    messages = schema.field("messages").type
    is_list = pa.types.is_list(messages) or pa.types.is_large_list(messages)
    item = messages.value_type if is_list else messages
    fields = {field.name for field in item} if is_list and pa.types.is_struct(item) else set()
    if not {"role", "content"} <= fields:
        raise InputError(
            f"The column `messages` of {path} is {messages}.",
            remedy="Make it a list of structs with role and content.",
            param="input",
        )


def _not_parquet(path: Path) -> InputError:
    remedy = "Write it again, or rename it if it is JSON Lines."
    return InputError(f"{path} is not a Parquet file, or it is damaged.", remedy=remedy, param="input")
