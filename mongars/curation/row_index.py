"""Published rows as a selection reads them: everything but the text, and the shingles of some.

Owns the way from a row back to those columns. Must not know files, versions or Ray.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from mongars.curation.cleaning import CLEAN_SCHEMA, KEPT
from mongars.curation.dedup import Hashes
from mongars.curation.fingerprint import fingerprint_of_row, row_shingles
from mongars.curation.selection import COLUMNS

INDEX_SCHEMA = pa.schema([*(CLEAN_SCHEMA.field(name) for name in ("outcome", *COLUMNS)), ("split", pa.string())])
Keyed = Iterable[tuple[int, Mapping[str, Any]]]


def index_of(rows: Keyed) -> pa.Table:
    """Return the index of (key, row of ROW_SCHEMA) pairs, INDEX_SCHEMA, in their order."""
    return pa.Table.from_pylist([_columns(key, row) for key, row in rows], schema=INDEX_SCHEMA)


def shingles_of(rows: Keyed, keys: Sequence[int]) -> dict[int, Hashes]:
    """Return the shingles of those of the rows that `keys` names."""
    wanted = set(keys)
    return {key: row_shingles(row) for key, row in rows if key in wanted}


def _columns(key: int, row: Mapping[str, Any]) -> dict[str, Any]:
    known = fingerprint_of_row(row)
    return {
        "outcome": KEPT,
        "key": key,
        "id": row["id"],
        "subject": row["subject"],
        "turns": len(row["messages"]),
        "digest": known.digest,
        "content": known.content,
        "bands": known.bands,
        "split": row["split"],
    }
