"""The rows of published versions, with which a selection compares new rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.curation.dedup.minhash import Hashes
from mongars.curation.dedup.row_index import index_of, shingles_of
from mongars.curation.dedup.selection import PriorRows
from mongars.records import DatasetRef


@dataclass(frozen=True, slots=True)
class PriorVersions:
    """Versions of one catalog whose rows must not be added again."""

    catalog: DatasetCatalog
    refs: Sequence[DatasetRef]

    def check(self) -> None:
        """Raise DatasetRefusedError for a version that is damaged or not ready."""
        for ref in self.refs:
            self.catalog.require_ready(ref)
            self.catalog.verify(ref)

    def rows(self) -> PriorRows | None:
        """Return the rows of all versions, None when there is no version."""
        return PriorRows(index_of(self._rows()), self._shingles) if self.refs else None

    def _shingles(self, keys: Sequence[int]) -> dict[int, Hashes]:
        return shingles_of(self._rows(), keys)

    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        tables = (table for ref in self.refs for table in self.catalog.read(ref, self.catalog.parts(ref)))
        return enumerate(row for table in tables for row in table.to_pylist())
