"""A dataset version while it is filled: Parquet parts in a hidden folder, and what is counted on the way.

Owns the parts and the counts. Must not know versions, states or where the draft ends up.
"""

from collections import Counter
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from mongars.curation.rows import ROW_SCHEMA, content_digest, row_digests

# About 100 MB of chat before compression: small enough to read at once, large enough to be few.
ROWS_PER_PART = 50_000


class Draft:
    """Append tables, close, then hand it to `DatasetCatalog.publish`. Use it as a context manager."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.parts: list[Path] = []
        self.rows = 0
        self.splits: Counter[str] = Counter()
        self.subjects: set[str] = set()
        self._digests: list[bytes] = []
        self._rows_in_part = 0
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        self.splits.update(table["split"].to_pylist())
        self.subjects.update(table["subject"].to_pylist())
        self._digests += row_digests(table)

    def close(self) -> None:
        """Finish the last part; an empty draft gets one without rows, so that every version can be read."""
        if not self.parts:
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
        self.parts.append(self.folder / f"part-{len(self.parts):05d}.parquet")
        self._writer = pq.ParquetWriter(self.parts[-1], ROW_SCHEMA, compression="zstd")
        self._rows_in_part = 0
