"""The cleaned rows while a version is made: their text in blocks that Ray holds, everything else here.

Owns what is asked of all blocks at once: the index, shingles, and rows in the order of their ids. Beside
pipeline.py the only module here that imports Ray. Must not know how a row was cleaned or which ones stay.

Plain tasks, one for each block: the same by Ray Data's `sort` and `map_batches` took 6.9 of 16.8 s for 1,000
conversations, nearly all of it for planning and starting (docs/results/2026-11-26-curation.md).
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
# Some 10 MB of chat.
PORTION_ROWS = 8_192


class CleanedRows:
    """Rows of CLEAN_SCHEMA, by the references to their blocks; `index` is all of their columns but the text."""

    def __init__(self, blocks: Sequence[Any], portion_rows: int = PORTION_ROWS) -> None:
        """Fetch the index. `portion_rows` are held here at once while rows are put in order."""
        self._blocks, self._portion_rows = list(blocks), portion_rows
        parts = ray.get([_index_task.remote(block) for block in self._blocks])
        self.index = pa.concat_tables(parts) if parts else CLEAN_SCHEMA.empty_table().select(_INDEX)

    def shingles(self, keys: Sequence[int]) -> dict[int, Hashes]:
        """Return the shingles of those of the rows that `keys` names."""
        wanted = ray.put(np.array(keys, dtype=np.int64))
        parts = ray.get([_shingle_task.remote(block, wanted) for block in self._blocks])
        return {key: shingles for part in parts for key, shingles in part.items()}

    def in_order(self, keys: Indices, splits: npt.NDArray[np.str_]) -> Iterator[pa.Table]:
        """Yield the rows of `keys`, ascending, as tables of ROW_SCHEMA in order of their ids.

        Each block gives up its rows portion by portion, the first of all blocks before the second of any.
        """
        if not len(keys):
            return
        plan = ray.put((keys, self._ranks(keys), splits))
        streams = [_portion_task.remote(block, plan, self._portion_rows) for block in self._blocks]
        for references in zip(*streams, strict=True):
            portion = pa.concat_tables(ray.get(list(references)))
            yield portion.sort_by("rank").select(ROW_SCHEMA.names)

    def _ranks(self, keys: Indices) -> Indices:
        """Return each key's place in the order of ids; equal ids, which only duplicates have, by content."""
        rows = only(self.index.select(["key", "id", "digest"]), keys).sort_by("key")
        order = pc.sort_indices(rows, sort_keys=[("id", "ascending"), ("digest", "ascending")]).to_numpy()
        ranks = np.empty(len(keys), dtype=np.int64)
        ranks[order] = np.arange(len(keys))
        return ranks


def only(rows: pa.Table, keys: Indices) -> pa.Table:
    """Return those of the rows that `keys` names."""
    return rows.filter(pa.array(np.isin(rows["key"].to_numpy(), keys)))


def _indexed(block: pa.Table) -> pa.Table:
    return block.select(_INDEX).cast(pa.schema([CLEAN_SCHEMA.field(column) for column in _INDEX]))


def _shingled(block: pa.Table, keys: Indices) -> dict[int, Hashes]:
    return {row["key"]: row_shingles(row) for row in only(block.select(["key", "messages"]), keys).to_pylist()}


def _portions(
    block: pa.Table, plan: tuple[Indices, Indices, npt.NDArray[np.str_]], size: int
) -> Iterator[pa.Table]:
    """Yield tables of ROW_SCHEMA and `rank`, the first with those of the block's rows that are among the `size`
    lowest ranks of all, and so on: as many from every block."""
    keys, ranks, splits = plan
    rows = only(block, keys)
    places = np.searchsorted(keys, rows["key"].to_numpy())
    rows = rows.append_column("split", pa.array(splits[places].tolist(), pa.string()))
    rows = rows.select(ROW_SCHEMA.names).cast(ROW_SCHEMA).append_column("rank", pa.array(ranks[places]))
    portion = ranks[places] // size
    for number in range(-(-len(keys) // size)):
        yield rows.filter(pa.array(portion == number))


_index_task, _shingle_task, _portion_task = map(ray.remote, (_indexed, _shingled, _portions))
