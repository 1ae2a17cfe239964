"""A dataset version while it is filled: Parquet parts in a hidden folder, with counts of their rows."""

from collections import Counter
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from mongars.curation.catalog.manifest import SCHEMA, Manifest, Provenance, SetAside
from mongars.curation.catalog.rows import ROW_SCHEMA, content_digest, row_digests
from mongars.records import now

# About 100 MB of chat before compression: small enough to read at once, large enough to be few.
ROWS_PER_PART = 50_000


class Parts:
    """Rows in one or more Parquet files of a folder, named `<prefix>-00000.parquet` and so on."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder, self._prefix = folder, prefix
        self.paths: list[Path] = []
        self.rows = 0
        self._digests: list[bytes] = []
        self._rows_in_part = 0
        self._writer: pq.ParquetWriter | None = None

    def append(self, table: pa.Table) -> None:
        """Add the rows of a ROW_SCHEMA table, in order. Raises ValueError for another schema."""
        if not table.schema.equals(ROW_SCHEMA):
            raise ValueError(f"Not rows of a dataset: {table.schema}")
        if table.num_rows == 0:
            return
        if self._writer is None or self._rows_in_part >= ROWS_PER_PART:
            self._next_part()
        assert self._writer is not None
        self._writer.write_table(table)
        self._rows_in_part += table.num_rows
        self.rows += table.num_rows
        self._digests += row_digests(table)

    def close(self) -> None:
        """Finish the last file. Without rows it writes an empty one: a version needs a file to read."""
        if not self.paths:
            self._next_part()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def digest(self) -> str:
        """Return the content digest of all rows so far."""
        return content_digest(self._digests)

    def _next_part(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self.paths.append(self._folder / f"{self._prefix}-{len(self.paths):05d}.parquet")
        self._writer = pq.ParquetWriter(self.paths[-1], ROW_SCHEMA, compression="zstd")
        self._rows_in_part = 0


class Draft:
    """Append tables, close, then pass it to `DatasetCatalog.publish`. Use it as a context manager.

    Rows that are set aside were dropped only as duplicates. They are not part of the dataset, but are stored with
    it, so that they can replace a row that is erased.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.parts = Parts(folder, "part")
        self.duplicates = Parts(folder, "duplicates")
        self.splits: Counter[str] = Counter()
        self.subjects: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def rows(self) -> int:
        """Rows of the dataset so far."""
        return self.parts.rows

    def append(self, table: pa.Table) -> None:
        """Add the rows of a ROW_SCHEMA table, in order. Raises ValueError for another schema."""
        self.parts.append(table)
        self.splits.update(table["split"].to_pylist())
        self.subjects.update(table["subject"].to_pylist())

    def set_aside(self, table: pa.Table) -> None:
        """Store duplicates alongside the dataset. Raises ValueError for a schema other than ROW_SCHEMA."""
        self.duplicates.append(table)
        self.subjects.update(table["subject"].to_pylist())

    def manifest(self, version: str, provenance: Provenance) -> Manifest:
        """Return the manifest of the closed draft as `version`."""
        facts = {
            "schema": SCHEMA,
            "name": self.name,
            "version": version,
            "state": "quarantined" if provenance.leaks else "ready",
            "created_at": now(),
            "rows": self.rows,
            "bytes": sum(part.stat().st_size for part in self.parts.paths),
            "digest": self.parts.digest(),
            "parts": [part.name for part in self.parts.paths],
            "splits": dict(sorted(self.splits.items())),
            "subjects": sorted(self.subjects),
            "duplicates": SetAside(
                parts=[part.name for part in self.duplicates.paths],
                rows=self.duplicates.rows,
                digest=self.duplicates.digest(),
            ),
        }
        return Manifest.model_validate(facts | provenance.as_facts())

    def close(self) -> None:
        """Finish the files."""
        self.parts.close()
        self.duplicates.close()
