"""The curation as a Ray Data pipeline: conversations in, a published dataset version out.

Every line read is accounted for: as a row kept, a row dropped for a reason, or a bad line. Text flows through Ray
Data; per conversation the driver holds ids, hashes and MinHash bands, and no text.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.curation.catalog.draft import Draft
from mongars.curation.catalog.manifest import Provenance
from mongars.curation.cleaned_rows import CleanedRows, take_keys
from mongars.curation.cleaning import BAD, KEPT, Cleaner
from mongars.curation.dedup.minhash import Indices
from mongars.curation.dedup.prior_versions import PriorVersions
from mongars.curation.dedup.selection import Selection, select
from mongars.curation.dedup.splits import DUPLICATE, PRIOR
from mongars.curation.recipe import CurationRecipe, CurationReport, OnProgress
from mongars.curation.sources import ConversationSource
from mongars.errors import UnavailableError
from mongars.formats.jsonl import BadLine
from mongars.records import DatasetRef
from mongars.records import now as current_time
from mongars.settings import refuse_unsafe_ray_data

# Size at which a task returns a block of cleaned rows: a few seconds of work, so that progress is visible.
BLOCK_BYTES = 8 * 2**20


def curate(
    source: ConversationSource,
    recipe: CurationRecipe,
    catalog: DatasetCatalog,
    *,
    secret: bytes,
    name: str,
    on_progress: OnProgress | None = None,
    now: datetime | None = None,
    exclude: Sequence[DatasetRef] = (),
) -> CurationReport:
    """Curate conversations into a version of dataset `name`; Ray must be running in this process.

    The same conversations, recipe and secret give the same digest, whatever the order of files and blocks; an
    existing version with that digest is returned. Retention counts from `now`. Rows that the ready versions in
    `exclude` already have, exactly or nearly, are left out; new rows similar to theirs or of their subjects get
    their split. A version without rows, or with a leak, is published but refused by `require_ready`.

    Raises what `source.check` does, SettingsError for an unsafe environment, DatasetRefusedError for an excluded
    version that is not ready, UnavailableError without Ray.
    """
    refuse_unsafe_ray_data()
    if not ray.is_initialized():
        raise UnavailableError("Ray is not running in this process.", remedy="Call ray.init() before curate().")
    source.check()
    prior = PriorVersions(catalog, exclude)
    prior.check()
    progress = on_progress or (lambda _done, _total, _stage: None)
    erased = catalog.tombstones.subjects()
    cleaner = Cleaner(recipe, now or current_time(), secret, erased)
    with catalog.open_draft(name) as draft, _own_ray_data():
        cleaned = _clean(source, cleaner, progress)
        index = cleaned.index
        progress(0, index.num_rows, "deduplicate")
        selection = select(index, recipe, cleaned.shingles, prior.rows())
        progress(index.num_rows, index.num_rows, "deduplicate")
        _write(draft, cleaned, selection, progress)
        parents = [*source.digests(), *(ref.digest for ref in exclude)]
        provenance = _account(index, selection, recipe, sorted(parents), exclude)
        dataset, reused = catalog.publish(draft, provenance)
    return CurationReport(
        dataset=dataset,
        rows_read=provenance.rows_read,
        rows_kept=draft.rows,
        dropped=provenance.dropped,
        pii=provenance.pii,
        bad_lines=_bad_lines(index, source),
        reused=reused,
        turns_dropped=provenance.turns_dropped,
        leaks=provenance.leaks,
        splits=dict(sorted(draft.splits.items())),
    )


def _clean(source: ConversationSource, cleaner: Cleaner, progress: OnProgress) -> CleanedRows:
    """Return the cleaned rows of all conversations."""
    total = source.count()
    progress(0, total, "clean")
    blocks, done = list[Any](), 0
    for parts in source.portions(tasks=int(ray.cluster_resources().get("CPU", 1))):
        cleaned = ray.data.from_items(parts, override_num_blocks=len(parts)).map_batches(
            cleaner.clean_parts, batch_format="pyarrow", batch_size=1, fn_kwargs={"read": source.read}
        )
        for bundle in cleaned.iter_internal_ref_bundles():  # what `materialize` does, a block at a time
            blocks += [block.ref for block in bundle.blocks]
            done += bundle.num_rows() or 0
            progress(done, total, "clean")
    return CleanedRows(blocks)


def _write(draft: Draft, cleaned: CleanedRows, selection: Selection, progress: OnProgress) -> None:
    """Write the selected rows in order of their ids, then those that are set aside."""
    total = len(selection.keys)
    progress(0, total, "write")
    for batch in cleaned.in_order(selection.keys, selection.splits):
        draft.append(batch)
        progress(draft.rows, total, "write")
    for batch in cleaned.in_order(*_set_aside_rows(cleaned.index, selection)):
        draft.set_aside(batch)


def _set_aside_rows(index: pa.Table, selection: Selection) -> tuple[Indices, npt.NDArray[np.str_]]:
    """Return the keys of the duplicates to set aside and their splits; rows with a leak are left out."""
    rows = take_keys(index.select(["key", "leaks"]), np.union1d(selection.duplicates, selection.in_prior))
    keys = np.sort(rows.filter(pc.equal(pc.list_value_length(rows["leaks"]), 0))["key"].to_numpy())
    return keys, np.where(np.isin(keys, selection.in_prior), PRIOR, DUPLICATE)


def _account(
    index: pa.Table,
    selection: Selection,
    recipe: CurationRecipe,
    parents: list[str],
    exclude: Sequence[DatasetRef],
) -> Provenance:
    outcomes = _counts(index["outcome"])
    bad = outcomes.pop(BAD, 0)
    outcomes.pop(KEPT, None)
    kept = take_keys(index.select(["key", "pii", "leaks"]), selection.keys)
    return Provenance(
        recipe=recipe.as_json(),
        recipe_hash=recipe.digest(),
        parents=tuple(parents),
        against=tuple(f"{ref.name}@{ref.version}" for ref in exclude),
        rows_read=index.num_rows,
        bad_lines=bad,
        dropped=_sorted(outcomes + Counter(selection.dropped)),
        turns_dropped=_sorted(_counts(pc.list_flatten(index["turns_dropped"]))),
        pii=_sorted(_counts(pc.list_flatten(kept["pii"]))),
        leaks=_sorted(_counts(pc.list_flatten(kept["leaks"]))),
    )


def _counts(values: pa.ChunkedArray) -> Counter[str]:
    """Count each value without a Python object per row: there may be millions."""
    return Counter({each["values"]: each["counts"] for each in pc.value_counts(values).to_pylist()})


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return {str(name): count for name, count in sorted(counts.items())}


def _bad_lines(index: pa.Table, source: ConversationSource) -> tuple[BadLine, ...]:
    bad = index.select(["key", "detail"]).filter(pc.equal(index["outcome"], BAD)).sort_by("key")
    return tuple(BadLine(*source.place(row["key"]), row["detail"]) for row in bad.to_pylist())


@contextmanager
def _own_ray_data() -> Iterator[None]:
    """Run Ray Data with small blocks and without its own progress bars and notices."""
    context = ray.data.DataContext.get_current().copy()
    context.target_max_block_size = BLOCK_BYTES
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    consoles = [handler for handler in logging.getLogger("ray.data").handlers if handler.get_name() == "console"]
    levels = [handler.level for handler in consoles]
    for handler in consoles:
        handler.setLevel(logging.ERROR)  # the log file in the session folder still gets everything
    try:
        with ray.data.DataContext.current(context):
            yield
    finally:
        for handler, level in zip(consoles, levels, strict=True):
            handler.setLevel(level)
