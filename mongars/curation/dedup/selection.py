"""Which cleaned rows a version keeps: duplicates are dropped, every other row gets a split.

The result does not depend on the order in which rows arrive. Texts stay elsewhere: a selection reads columns, and
asks for the shingles of rows that may be near copies.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mongars.curation.cleaning import KEPT
from mongars.curation.dedup.minhash import BANDS, Bands, Hashes, Indices, candidate_pairs, components, jaccard
from mongars.curation.dedup.splits import assign_splits
from mongars.curation.filters.quality import DropReason
from mongars.curation.recipe import CurationRecipe

# The columns of CLEAN_SCHEMA that a selection reads.
_COMPARED = ("key", "id", "subject", "turns", "digest", "content")
COLUMNS = (*_COMPARED, "bands")
# Conversations as similar as this are never on both sides of a split, even where both are kept.
SPLIT_JACCARD = 0.6
# Bounds the memory that shingles take: about 140 MB.
PAIRS_AT_ONCE = 16_384
_KEPT, _SAME_CONTENT, _SAME_ID, _NEAR, _PRIOR = range(5)
Flags = npt.NDArray[np.bool_]
Reasons = npt.NDArray[np.int8]
Splits = npt.NDArray[np.str_]
Shingles = Callable[[Sequence[int]], Mapping[int, Hashes]]


@dataclass(frozen=True, slots=True)
class PriorRows:
    """Rows of published versions: their COLUMNS with their `split`, and their shingles by `key`."""

    index: pa.Table
    shingles: Shingles


@dataclass(frozen=True, slots=True)
class Selection:
    """The ascending keys that are kept, the split of each, and what was dropped.

    `duplicates` are keys of rows that repeat a kept row, `in_prior` those of rows that repeat a prior one;
    `dropped` counts rows by reason.
    """

    keys: Indices
    splits: Splits
    duplicates: Indices
    dropped: Mapping[str, int]
    in_prior: Indices


def select(
    cleaned: pa.Table,
    recipe: CurationRecipe,
    shingles: Shingles,
    prior: PriorRows | None = None,
    pins: Mapping[int, str] | None = None,
) -> Selection:
    """Choose among the rows whose outcome is KEPT; `shingles(keys)` returns the shingle hashes of rows.

    Prior rows win over new ones and are never part of the selection. New rows that are similar to them, or have
    their subject, get their split. A new row may have the id of a prior one: with other content it is a later
    state of the same conversation. `pins` are splits that new rows must get, by key.
    """
    candidates = cleaned.select(_COMPARED).filter(pc.equal(cleaned["outcome"], KEPT))
    known = prior.index.select(_COMPARED) if prior else candidates.slice(0, 0)
    # Rows that are not kept have no bands, so this column, the largest, is used without copying it.
    bands = [*(prior.index["bands"].chunks if prior else ()), *cleaned["bands"].chunks]
    assert sum(len(chunk.flatten()) for chunk in bands) == BANDS * (known.num_rows + candidates.num_rows)
    ranked = np.concatenate((np.arange(known.num_rows), known.num_rows + _preference(candidates)))
    is_prior = np.arange(len(ranked)) < known.num_rows
    rows = pa.concat_tables([known, candidates])
    keys = rows["key"].to_numpy()[ranked]
    contents, ids = _codes(rows["content"])[ranked], _codes(rows["id"])[ranked]
    subjects = rows["subject"]
    del rows, known, candidates

    reasons = _drop_exact(contents, ids, is_prior)
    unique = np.flatnonzero(reasons == _KEPT)
    pairs, similarity = _similar_pairs(
        _columns_of(bands), ranked[unique], _Rows(keys[unique], is_prior[unique], shingles, prior)
    )
    canonical = components(len(unique), pairs[similarity >= recipe.near_duplicate_jaccard])
    copies = (canonical != np.arange(len(unique))) & ~is_prior[unique]
    reasons[unique[copies]] = np.where(is_prior[unique[canonical[copies]]], _PRIOR, _NEAR)
    _drop_with_prior(reasons, contents, ids)

    similar = components(len(unique), pairs[similarity >= min(SPLIT_JACCARD, recipe.near_duplicate_jaccard)])
    kept = np.flatnonzero(reasons[unique] == _KEPT)
    places = unique[kept]
    splits = assign_splits(
        subjects.take(pa.array(ranked[places])),
        # Renumbered by the first kept row of each cluster. The smallest row of a cluster is always kept.
        np.searchsorted(kept, similar[kept]),
        test_share=recipe.test_share,
        seed=recipe.split_seed,
        pinned=_pinned(keys[places[~is_prior[places]]], prior, pins or {}),
    )
    is_new = ~is_prior[places]
    survivors, splits = keys[places[is_new]], splits[is_new]
    ascending = np.argsort(survivors)
    set_aside = np.sort(keys[np.isin(reasons, (_SAME_CONTENT, _SAME_ID, _NEAR))])
    in_prior = np.sort(keys[reasons == _PRIOR])
    return Selection(survivors[ascending], splits[ascending], set_aside, _counted(reasons), in_prior)


def _pinned(new_keys: Indices, prior: PriorRows | None, pins: Mapping[int, str]) -> Splits:
    """Return the split that each row must get, "" for any: first of all prior rows, then of the new ones."""
    known = np.array(prior.index["split"].to_pylist() if prior else [], dtype=np.str_)
    new = [pins.get(key, "") for key in new_keys.tolist()] if pins else np.full(len(new_keys), "", dtype=np.str_)
    return np.concatenate((known, np.array(new, dtype=np.str_)))


def _preference(rows: pa.Table) -> Indices:
    """Return the rows' order: by id, of the same id the longest conversation first, then by content."""
    keys = [("id", "ascending"), ("turns", "descending"), ("digest", "ascending")]
    return np.asarray(pc.sort_indices(rows.select(["id", "turns", "digest"]), sort_keys=keys)).astype(np.int64)


def _codes(column: pa.ChunkedArray) -> Indices:
    """Return a number for each row, equal for equal values."""
    return np.asarray(column.combine_chunks().dictionary_encode().indices).astype(np.int64)


def _drop_exact(contents: Indices, ids: Indices, is_prior: Flags) -> Reasons:
    """Return why each row is dropped: a kept row before it has its content, or else its id.

    Prior rows are all kept, and reserve no id.
    """
    in_prior, seen, taken = (np.zeros(len(contents), dtype=bool) for _ in range(3))
    in_prior[contents[is_prior]] = True
    reasons = np.full(len(contents), _KEPT, dtype=np.int8)
    for row in np.flatnonzero(~is_prior):
        content, identity = contents[row], ids[row]
        if in_prior[content]:
            reasons[row] = _PRIOR
            taken[identity] = True  # otherwise a shorter state of a published conversation would count as new
        elif seen[content]:
            reasons[row] = _SAME_CONTENT
        elif taken[identity]:
            reasons[row] = _SAME_ID
        else:
            seen[content] = taken[identity] = True
    return reasons


def _drop_with_prior(reasons: Reasons, contents: Indices, ids: Indices) -> None:
    """Give duplicates of a row that repeats a prior one the same reason.

    An erasure does not know prior versions, so it would otherwise readmit such a duplicate.
    """
    repeats_prior = reasons == _PRIOR
    copies = (reasons == _SAME_CONTENT) & np.isin(contents, contents[repeats_prior])
    copies |= (reasons == _SAME_ID) & np.isin(ids, ids[repeats_prior])
    reasons[copies] = _PRIOR


def _counted(reasons: Reasons) -> dict[str, int]:
    named = {
        _SAME_CONTENT: DropReason.EXACT_DUPLICATE,
        _SAME_ID: DropReason.DUPLICATE_ID,
        _NEAR: DropReason.NEAR_DUPLICATE,
        _PRIOR: DropReason.IN_PRIOR_VERSION,
    }
    counts = {str(name): int((reasons == reason).sum()) for reason, name in named.items()}
    return {name: count for name, count in counts.items() if count}


def _columns_of(chunks: Sequence[pa.ListArray]) -> Iterator[Bands]:
    """Yield each band of all rows, [rows]."""
    parts = [np.asarray(chunk.flatten()).reshape(-1, BANDS) for chunk in chunks]
    for place in range(BANDS):
        yield np.concatenate([np.zeros(0, dtype=np.uint32), *(part[:, place] for part in parts)])


@dataclass(frozen=True, slots=True)
class _Rows:
    """New and prior rows in one numbering. Their keys are separate: a new row and a prior one may share a key."""

    keys: Indices
    is_prior: Flags
    new_shingles: Shingles
    prior: PriorRows | None

    def shingles(self, places: Indices) -> dict[int, Hashes]:
        """Return the shingles of rows by their place."""
        found: dict[int, Hashes] = {}
        known = self.is_prior[places]
        loaders = [(places[~known], self.new_shingles)]
        if self.prior:
            loaders.append((places[known], self.prior.shingles))
        for chosen, load in loaders:
            if len(chosen):
                keys = self.keys[chosen].tolist()
                sets = load(keys)
                found |= {place: sets[key] for place, key in zip(chosen.tolist(), keys, strict=True)}
        return found


def _similar_pairs(
    bands: Iterable[Bands], ranked: Indices, rows: _Rows
) -> tuple[Indices, npt.NDArray[np.float64]]:
    """Return the pairs of places in `rows` that MinHash proposes, [pairs, 2], and their exact Jaccard similarity.

    Pairs of two prior rows are left out. `ranked` are the rows of `bands` that are compared.
    """
    pairs = candidate_pairs(band[ranked] for band in bands)
    if rows.prior:
        pairs = pairs[~rows.is_prior[pairs].all(axis=1)]
    # Keep groups of similar rows together, so that few shingles are loaded twice.
    pairs = pairs[np.argsort(components(len(ranked), pairs)[pairs[:, 0]], kind="stable")]
    similarity = np.zeros(len(pairs))
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        part = pairs[start : start + PAIRS_AT_ONCE]
        sets = rows.shingles(np.unique(part))
        similarity[start : start + len(part)] = [jaccard(sets[one], sets[other]) for one, other in part.tolist()]
    return pairs, similarity
