"""The cleaned rows while a version is made: Ray holds their text in blocks, the driver all other columns.

Plain tasks, one per block: for small inputs, planning and starting Ray Data's `sort` and `map_batches` costs more
than the work (docs/results/curation.md).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import ray

from mongars.curation.catalog.rows import ROW_SCHEMA
from mongars.curation.cleaning import CLEAN_SCHEMA
from mongars.curation.dedup.fingerprint import row_shingles
from mongars.curation.dedup.minhash import Hashes, Indices

_INDEX = [name for name in CLEAN_SCHEMA.names if name not in ("messages", "opinions")]
# About 10 MB of chat.
PORTION_ROWS = 8_192


class CleanedRows:
    """Rows of CLEAN_SCHEMA in referenced blocks; `index` is a table of all their columns without the text."""

    def __init__(self, blocks: Sequence[Any], portion_rows: int = PORTION_ROWS) -> None:
        """Fetch the index. `portion_rows` bounds the rows that the driver holds while it sorts them."""
        self._blocks, self._portion_rows = list(blocks), portion_rows
        parts = ray.get([_index_task.remote(block) for block in self._blocks])
        self.index = pa.concat_tables(parts) if parts else CLEAN_SCHEMA.empty_table().select(_INDEX)

    def shingles(self, keys: Sequence[int]) -> dict[int, Hashes]:
        """Return the shingles of the rows with the given keys."""
        wanted = ray.put(np.array(keys, dtype=np.int64))
        parts = ray.get([_shingle_task.remote(block, wanted) for block in self._blocks])
        return {key: shingles for part in parts for key, shingles in part.items()}

    def in_order(self, keys: Indices, splits: npt.NDArray[np.str_]) -> Iterator[pa.Table]:
        """Yield the rows of `keys`, ascending, as tables of ROW_SCHEMA in order of their ids.

        The first table takes a portion of every block, the second the next portion, and so on.
        """
        if not len(keys):
            return
        plan = ray.put((keys, self._ranks(keys), splits))
        streams = [_portion_task.remote(block, plan, self._portion_rows) for block in self._blocks]
        for references in zip(*streams, strict=True):
            portion = pa.concat_tables(ray.get(list(references)))
            yield portion.sort_by("rank").select(ROW_SCHEMA.names)

    def _ranks(self, keys: Indices) -> Indices:
        """Return each key's rank by id; equal ids, which only duplicates have, are ranked by content."""
        rows = take_keys(self.index.select(["key", "id", "digest"]), keys).sort_by("key")
        order = pc.sort_indices(rows, sort_keys=[("id", "ascending"), ("digest", "ascending")]).to_numpy()
        ranks = np.empty(len(keys), dtype=np.int64)
        ranks[order] = np.arange(len(keys))
        return ranks


def take_keys(rows: pa.Table, keys: Indices) -> pa.Table:
    """Return the rows with the given keys."""
    return rows.filter(pa.array(np.isin(rows["key"].to_numpy(), keys)))


def _indexed(block: pa.Table) -> pa.Table:
    return block.select(_INDEX).cast(pa.schema([CLEAN_SCHEMA.field(column) for column in _INDEX]))


def _shingled(block: pa.Table, keys: Indices) -> dict[int, Hashes]:
    return {
        row["key"]: row_shingles(row) for row in take_keys(block.select(["key", "messages"]), keys).to_pylist()
    }


def _portions(
    block: pa.Table, plan: tuple[Indices, Indices, npt.NDArray[np.str_]], size: int
) -> Iterator[pa.Table]:
    """Yield tables of ROW_SCHEMA and `rank`: the n-th has the block's rows whose rank is in the n-th `size` ranks.

    Every block yields the same number of tables, some of them empty.
    """
    keys, ranks, splits = plan
    rows = take_keys(block, keys)
    places = np.searchsorted(keys, rows["key"].to_numpy())
    rows = rows.append_column("split", pa.array(splits[places].tolist(), pa.string()))
    rows = rows.select(ROW_SCHEMA.names).cast(ROW_SCHEMA).append_column("rank", pa.array(ranks[places]))
    portion = ranks[places] // size
    for number in range(-(-len(keys) // size)):
        yield rows.filter(pa.array(portion == number))


_index_task, _shingle_task, _portion_task = map(ray.remote, (_indexed, _shingled, _portions))
