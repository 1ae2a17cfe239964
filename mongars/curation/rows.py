"""The rows of a dataset version: their schema and the digest of their content.

Owns both definitions, shared by what makes rows and what stores them. Must not know files, Ray or cleaning.
"""

import hashlib
from collections.abc import Iterable, Iterator

import pyarrow as pa

from mongars.digests import canonical_json

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


def row_digests(table: pa.Table) -> Iterator[bytes]:
    """Yield the sha256 of each row of a ROW_SCHEMA table: of its canonical JSON, the columns in schema order."""
    for row in table.select(ROW_SCHEMA.names).to_pylist():
        messages = [[message["role"], message["content"]] for message in row.pop("messages")]
        opinions = [[each["query"], each["text"], each["good"]] for each in row.pop("opinions") or ()]
        yield hashlib.sha256(canonical_json([*row.values(), messages, opinions])).digest()


def content_digest(digests: Iterable[bytes]) -> str:
    """Return the sha256, in hex, over the sorted row digests: the same rows give the same digest in any order."""
    whole = hashlib.sha256()
    for digest in sorted(digests):
        whole.update(digest)
    return whole.hexdigest()
