"""The rows of a dataset version: their schema and the digest of their content."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from mongars.storage.digests import canonical_json

MESSAGES_TYPE = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
OPINIONS_TYPE = pa.list_(pa.struct([("query", pa.string()), ("text", pa.string()), ("good", pa.bool_())]))
ROW_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("subject", pa.string()),
        ("split", pa.string()),
        ("source", pa.string()),
        ("language", pa.string()),
        ("messages", MESSAGES_TYPE),
        ("opinions", OPINIONS_TYPE),
    ]
)
_OPINIONS = ROW_SCHEMA.field("opinions")
_BEFORE_OPINIONS = ROW_SCHEMA.remove(ROW_SCHEMA.get_field_index("opinions"))


def texts_of(turns: Iterable[str], opinions: Iterable[str]) -> list[str]:
    """Return the texts of turns, then those texts of opinions that no turn has."""
    turns = list(turns)
    return [*turns, *sorted(set(opinions) - set(turns))]


def row_texts(row: Mapping[str, Any]) -> list[str]:
    """Return all texts of a row, each once."""
    opinions = (opinion[part] for opinion in row["opinions"] or () for part in ("query", "text"))
    return texts_of((message["content"] for message in row["messages"]), opinions)


def is_of_rows(schema: pa.Schema) -> bool:
    """Report whether the schema is ROW_SCHEMA, or the one that versions had before there were opinions."""
    return any(map(schema.equals, (ROW_SCHEMA, _BEFORE_OPINIONS)))


def as_rows(table: pa.Table) -> pa.Table:
    """Return a table for which `is_of_rows` holds, with the columns of ROW_SCHEMA."""
    if table.schema.equals(ROW_SCHEMA):
        return table
    return table.append_column(_OPINIONS, pa.nulls(table.num_rows, OPINIONS_TYPE))


def row_digests(table: pa.Table) -> Iterator[bytes]:
    """Yield the sha256 of each row of a ROW_SCHEMA table, over the canonical JSON of its columns in schema order.

    Rows without opinions have the digest that they had before the column existed.
    """
    for row in table.select(ROW_SCHEMA.names).to_pylist():
        messages = [[message["role"], message["content"]] for message in row.pop("messages")]
        opinions = [[each["query"], each["text"], each["good"]] for each in row.pop("opinions") or ()]
        optional = [opinions] if opinions else []
        yield hashlib.sha256(canonical_json([*row.values(), messages, *optional])).digest()


def content_digest(digests: Iterable[bytes]) -> str:
    """Return the sha256, in hex, over the sorted row digests: the same rows give the same digest in any order."""
    whole = hashlib.sha256()
    for digest in sorted(digests):
        whole.update(digest)
    return whole.hexdigest()
