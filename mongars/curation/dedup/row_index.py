"""Published rows as a selection reads them: their columns without text, and the shingles of some."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from mongars.curation.cleaning import BATCH_ROWS, CLEAN_SCHEMA, KEPT
from mongars.curation.dedup.fingerprint import Fingerprint, fingerprint_of_row, row_shingles
from mongars.curation.dedup.minhash import Hashes, band_hashes
from mongars.curation.dedup.selection import COLUMNS

INDEX_SCHEMA = pa.schema([*(CLEAN_SCHEMA.field(name) for name in ("outcome", *COLUMNS)), ("split", pa.string())])
Keyed = Iterable[tuple[int, Mapping[str, Any]]]


def index_of(rows: Keyed) -> pa.Table:
    """Return the index of (key, row of ROW_SCHEMA) pairs, INDEX_SCHEMA, in their order."""
    batches, pending = [INDEX_SCHEMA.empty_table()], iter(rows)
    while batch := list(islice(pending, BATCH_ROWS)):
        found = [fingerprint_of_row(row) for _, row in batch]
        bands = band_hashes([each.shingles for each in found]).tolist()
        columns = [_columns(*keyed, *known) for keyed, *known in zip(batch, found, bands, strict=True)]
        batches.append(pa.Table.from_pylist(columns, schema=INDEX_SCHEMA))
    return pa.concat_tables(batches)


def shingles_of(rows: Keyed, keys: Sequence[int]) -> dict[int, Hashes]:
    """Return the shingles of the rows with the given keys."""
    wanted = set(keys)
    return {key: row_shingles(row) for key, row in rows if key in wanted}


def _columns(key: int, row: Mapping[str, Any], known: Fingerprint, bands: list[int]) -> dict[str, Any]:
    return {
        "outcome": KEPT,
        "key": key,
        "id": row["id"],
        "subject": row["subject"],
        "turns": len(row["messages"]),
        "digest": known.digest,
        "content": known.content,
        "bands": bands,
        "split": row["split"],
    }
