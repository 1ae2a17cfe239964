"""The rows of a dataset version: their schema and the digest of their content.

Owns both definitions, shared by what makes rows and what stores them. Must not know files, Ray or cleaning.
"""

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


def texts_of(said: Iterable[str], told: Iterable[str]) -> list[str]:
    """Return the texts of turns, and those of opinions that are none of them."""
    said = list(said)
    return [*said, *sorted(set(told) - set(said))]


def row_texts(row: Mapping[str, Any]) -> list[str]:
    """Return the texts of a row, as `texts_of`."""
    told = (opinion[part] for opinion in row["opinions"] or () for part in ("query", "text"))
    return texts_of((message["content"] for message in row["messages"]), told)


def is_of_rows(schema: pa.Schema) -> bool:
    """Say whether a version may have such columns: ROW_SCHEMA, or that of versions from before opinions."""
    return any(map(schema.equals, (ROW_SCHEMA, _BEFORE_OPINIONS)))


def as_rows(table: pa.Table) -> pa.Table:
    """Return a table that `is_of_rows` with the columns of ROW_SCHEMA."""
    if table.schema.equals(ROW_SCHEMA):
        return table
    return table.append_column(_OPINIONS, pa.nulls(table.num_rows, OPINIONS_TYPE))


def row_digests(table: pa.Table) -> Iterator[bytes]:
    """Yield the sha256 of each row of a ROW_SCHEMA table: of its canonical JSON, the columns in schema order.

    A row without opinions has the digest that it had before there were any.
    """
    for row in table.select(ROW_SCHEMA.names).to_pylist():
        messages = [[message["role"], message["content"]] for message in row.pop("messages")]
        opinions = [[each["query"], each["text"], each["good"]] for each in row.pop("opinions") or ()]
        told = [opinions] if opinions else []
        yield hashlib.sha256(canonical_json([*row.values(), messages, *told])).digest()


def content_digest(digests: Iterable[bytes]) -> str:
    """Return the sha256, in hex, over the sorted row digests: the same rows give the same digest in any order."""
    whole = hashlib.sha256()
    for digest in sorted(digests):
        whole.update(digest)
    return whole.hexdigest()
