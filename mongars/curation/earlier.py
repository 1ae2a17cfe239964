"""The rows of earlier versions, as a selection compares new rows with them.

Owns the reading of versions that stand already: fingerprints at once, shingles when they are asked for. Must not
know Ray or which new rows stay. Keys are -1, -2 and so on: no line of a source has such a key.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mongars.curation.catalog import DatasetCatalog
from mongars.curation.cleaning import CLEAN_SCHEMA
from mongars.curation.dedup import Hashes, normalise, shingle_hashes
from mongars.curation.fingerprint import fingerprint_of_row
from mongars.curation.selection import COLUMNS
from mongars.records import DatasetRef

EARLIER_SCHEMA = pa.schema([*(CLEAN_SCHEMA.field(name) for name in COLUMNS), ("split", pa.string())])


@dataclass(frozen=True, slots=True)
class EarlierVersions:
    """Versions of one catalog that new rows are compared with."""

    catalog: DatasetCatalog
    refs: Sequence[DatasetRef]

    def check(self) -> None:
        """Raise DatasetRefusedError for a version that is damaged or not ready."""
        for ref in self.refs:
            self.catalog.require_ready(ref)
            self.catalog.verify(ref)

    def index(self) -> pa.Table:
        """Return what a selection reads of the rows, EARLIER_SCHEMA: everything but the text."""
        return pa.Table.from_pylist([_indexed(key, row) for key, row in self._rows()], schema=EARLIER_SCHEMA)

    def shingles(self, keys: Sequence[int]) -> dict[int, Hashes]:
        """Return the shingles of the rows that are compared in full."""
        wanted = set(keys)
        if not wanted:
            return {}
        return {
            key: shingle_hashes(normalise([message["content"] for message in row["messages"]]))
            for key, row in self._rows()
            if key in wanted
        }

    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        tables = (table for ref in self.refs for table in self.catalog.read(ref, self.catalog.parts(ref)))
        rows = (row for table in tables for row in table.to_pylist())
        return ((-number, row) for number, row in enumerate(rows, start=1))


def _indexed(key: int, row: dict[str, Any]) -> dict[str, Any]:
    known = fingerprint_of_row(row)
    return {
        "key": key,
        "id": row["id"],
        "subject": row["subject"],
        "turns": len(row["messages"]),
        "digest": known.digest,
        "content": known.content,
        "bands": known.bands,
        "split": row["split"],
    }
