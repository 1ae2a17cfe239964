"""Writes the vectors of texts to a Parquet file, a chunk at a time: only one chunk is in memory."""

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mongars.errors import InputError, ResourceError
from mongars.formats.jsonl import BadLine, Text
from mongars.neurons.neurons import Neurons
from mongars.records import Attention
from mongars.storage.atomic import replacing

CHUNK_TEXTS = 1024
"""Texts of a chunk, which is also a row group; enough to fill batches of similar length."""
CHUNK_CHARACTERS = 4 * 1024 * 1024
"""Characters that end a chunk of long texts earlier, because of the memory of their tokens."""
NO_ADAPTER = "none"


@dataclass(frozen=True, slots=True)
class Origin:
    """The model behind the vectors of a file. `adapter` is a digest, None for the base alone."""

    base: str
    base_digest: str
    adapter: str | None
    attention: Attention


@dataclass(frozen=True, slots=True)
class Written:
    """Progress or total of a file: rows, tokens, and lines left out."""

    rows: int = 0
    tokens: int = 0
    bad_lines: int = 0


def vector_schema(origin: Origin, dimensions: int) -> pa.Schema:
    """Return the schema of a file of vectors, with their origin as metadata under `mongars.` keys."""
    metadata = {
        "base": origin.base,
        "base_digest": origin.base_digest,
        "adapter": origin.adapter or NO_ADAPTER,
        "attention": origin.attention,
        "dimensions": str(dimensions),
    }
    fields = [
        pa.field("id", pa.string(), nullable=False),
        pa.field("vector", pa.list_(pa.float32(), dimensions), nullable=False),
    ]
    return pa.schema(fields, metadata={f"mongars.{key}": value for key, value in metadata.items()})


def write_vectors(
    neurons: Neurons,
    texts: Iterable[Text | BadLine],
    output: Path,
    origin: Origin,
    *,
    on_bad: Callable[[BadLine], None] = lambda _: None,
    on_chunk: Callable[[Written], None] = lambda _: None,
    chunk_texts: int = CHUNK_TEXTS,
) -> Written:
    """Write `id` and `vector` (float32 [dimensions], length 1) of every text, in order, atomically.

    Bad lines and texts without tokens are left out and passed to `on_bad`. On an error or Ctrl-C `output` is
    unchanged. Raises InputError for a path that cannot be written, ResourceError when the disk is full.
    """
    schema = vector_schema(origin, neurons.dimensions)
    rows = tokens = bad_lines = 0

    def leave_out(bad: BadLine) -> None:
        nonlocal bad_lines
        bad_lines += 1
        on_bad(bad)

    try:
        with (
            replacing(output) as stream,
            # The floats of vectors do not repeat, so a dictionary would only cost.
            pq.ParquetWriter(stream, schema, compression="zstd", use_dictionary=False) as writer,
        ):
            for chunk in _chunks(_readable(texts, leave_out), chunk_texts):
                kept = _with_tokens(neurons, chunk, leave_out)
                vectors, read = neurons.encode([text.text for text in kept])
                writer.write_table(_table([text.id for text in kept], vectors, schema))
                rows, tokens = rows + len(kept), tokens + read
                on_chunk(Written(rows, tokens, bad_lines))
    except OSError as error:
        full = error.errno == errno.ENOSPC
        raise (ResourceError if full else InputError)(
            f"Cannot write {output}: {error.strerror or error}.",
            remedy="Choose a path with free space that this user may write to.",
            param="output",
        ) from error
    return Written(rows, tokens, bad_lines)


def _readable(texts: Iterable[Text | BadLine], leave_out: Callable[[BadLine], None]) -> Iterator[Text]:
    for text in texts:
        if isinstance(text, BadLine):
            leave_out(text)
        else:
            yield text


def _chunks(texts: Iterable[Text], limit: int) -> Iterator[list[Text]]:
    chunk: list[Text] = []
    characters = 0
    for text in texts:
        chunk.append(text)
        characters += len(text.text)
        if len(chunk) >= limit or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _with_tokens(neurons: Neurons, chunk: Sequence[Text], leave_out: Callable[[BadLine], None]) -> list[Text]:
    """Return the texts with tokens: a tokenizer may drop every character of a text."""
    empty = neurons.without_tokens([text.text for text in chunk])
    for index in sorted(empty):
        leave_out(BadLine(chunk[index].path, chunk[index].line, "the tokenizer finds nothing in its `text`"))
    return [text for index, text in enumerate(chunk) if index not in empty]


def _table(ids: Sequence[str], vectors: np.ndarray, schema: pa.Schema) -> pa.Table:
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), type=schema.field("vector").type)
    return pa.Table.from_arrays([pa.array(ids, pa.string()), column], schema=schema)
