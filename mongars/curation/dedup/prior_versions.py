"""The rows of earlier versions, as a selection compares new rows with them.

Owns the reading of versions that stand already, and their keys: -1, -2 and so on, which no line of a source has.
Must not know Ray or which new rows stay.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.curation.dedup.minhash import Hashes
from mongars.curation.dedup.row_index import index_of, shingles_of
from mongars.records import DatasetRef


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
        """Return what a selection reads of the rows, and their splits."""
        return index_of(self._rows())

    def shingles(self, keys: Sequence[int]) -> dict[int, Hashes]:
        """Return the shingles of those of the keys that are of these rows."""
        ours = [key for key in keys if key < 0]
        return shingles_of(self._rows(), ours) if ours else {}

    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        tables = (table for ref in self.refs for table in self.catalog.read(ref, self.catalog.parts(ref)))
        rows = (row for table in tables for row in table.to_pylist())
        return ((-number, row) for number, row in enumerate(rows, start=1))
