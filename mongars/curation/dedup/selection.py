"""Which cleaned rows make the version: duplicates go, the rest gets a split.

Owns the order of preference and the reasons. Must not know Ray: it sees columns, and asks for shingles where it
needs them. The result does not depend on the order in which rows arrive.
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

# The columns of CLEAN_SCHEMA that a selection reads: everything but the text.
_COMPARED = ("key", "id", "subject", "turns", "digest", "content")
COLUMNS = (*_COMPARED, "bands")
# Conversations this much alike are not dropped, but never stand on both sides of a split.
SPLIT_JACCARD = 0.6
# Of which shingles are held at once: 4 KB a row in public dialogues, so that they are at most 140 MB.
PAIRS_AT_ONCE = 16_384
_STAYS, _SAME_CONTENT, _SAME_ID, _NEAR, _EARLIER = range(5)
Shingles = Callable[[Sequence[int]], Mapping[int, Hashes]]


@dataclass(frozen=True, slots=True)
class Selection:
    """The keys that stay, the split of each, those of the duplicates, and how many went for which reason.

    `earlier` are the keys of rows that an earlier version holds. Keys are ascending.
    """

    keys: Indices
    splits: npt.NDArray[np.str_]
    duplicates: Indices
    dropped: Mapping[str, int]
    earlier: Indices


def select(
    cleaned: pa.Table,
    recipe: CurationRecipe,
    shingles: Shingles,
    earlier: pa.Table | None = None,
    pins: Mapping[int, str] | None = None,
) -> Selection:
    """Choose among the rows whose outcome is KEPT; `shingles(keys)` gives the shingle hashes of rows.

    `earlier` are rows of versions that stand already, with their `split`. They win over new rows, are never among
    those that stay, and new rows near them, or of their subjects, get their split. An id of theirs may come again:
    with another content it is a later state of the same conversation. `pins` are splits that rows keep, by key.
    Of a million rows the columns take 0.3 GB and what is computed here 0.5 GB more: arrays, no Python objects.
    """
    rows = cleaned.select(_COMPARED).filter(pc.equal(cleaned["outcome"], KEPT))
    held = earlier.select(_COMPARED) if earlier is not None else rows.slice(0, 0)
    # Rows that are not kept have no bands: nothing is to be taken out of this column, the largest, and copied.
    bands = [*(earlier["bands"].chunks if earlier is not None else ()), *cleaned["bands"].chunks]
    assert sum(len(chunk.flatten()) for chunk in bands) == BANDS * (held.num_rows + rows.num_rows)
    old, order = held.num_rows, _preference(rows)
    rows = pa.concat_tables([held, rows])
    order = np.concatenate((np.arange(old), old + order))
    keys, contents, ids = rows["key"].to_numpy()[order], _codes(rows["content"])[order], _codes(rows["id"])[order]
    subjects = rows["subject"]
    del rows, held
    reasons = _exact(contents, ids, old)
    alone = np.flatnonzero(reasons == _STAYS)
    pairs, similarity = _similar(_columns_of(bands), order[alone], keys[alone], shingles, old > 0)
    first = components(len(alone), pairs[similarity >= recipe.near_duplicate_jaccard])
    copies = (first != np.arange(len(alone))) & (alone >= old)
    reasons[alone[copies]] = np.where(alone[first[copies]] < old, _EARLIER, _NEAR)
    _with_earlier(reasons, contents, ids)
    alike = components(len(alone), pairs[similarity >= min(SPLIT_JACCARD, recipe.near_duplicate_jaccard)])
    kept = np.flatnonzero(reasons[alone] == _STAYS)
    splits = assign_splits(
        subjects.take(pa.array(order[alone[kept]])),
        # Renumbered by the first row of a cluster that stays, which its smallest row does.
        np.searchsorted(kept, alike[kept]),
        test_share=recipe.test_share,
        seed=recipe.split_seed,
        pinned=_pinned(keys[alone[kept]], earlier, pins or {}),
    )
    new = alone[kept] >= old
    stay, splits = keys[alone[kept]][new], splits[new]
    ascending = np.argsort(stay)
    aside = np.sort(keys[np.isin(reasons, (_SAME_CONTENT, _SAME_ID, _NEAR))])
    return Selection(
        stay[ascending], splits[ascending], aside, _counted(reasons), np.sort(keys[reasons == _EARLIER])
    )


def _pinned(keys: Indices, earlier: pa.Table | None, pins: Mapping[int, str]) -> npt.NDArray[np.str_]:
    """Return the split that each key has already, "" for one that has none."""
    known = dict(pins)
    if earlier is not None:
        known |= zip(earlier["key"].to_pylist(), earlier["split"].to_pylist(), strict=True)
    if not known:
        return np.full(len(keys), "", dtype=np.str_)
    return np.array([known.get(key, "") for key in keys.tolist()], dtype=np.str_)


def _preference(rows: pa.Table) -> Indices:
    """Return the rows' order: by id, of the same id the longest conversation first, then by content."""
    keys = [("id", "ascending"), ("turns", "descending"), ("digest", "ascending")]
    return np.asarray(pc.sort_indices(rows.select(["id", "turns", "digest"]), sort_keys=keys)).astype(np.int64)


def _codes(column: pa.ChunkedArray) -> Indices:
    """Return a number for each row that is the same where the values are."""
    return np.asarray(column.combine_chunks().dictionary_encode().indices).astype(np.int64)


def _exact(contents: Indices, ids: Indices, old: int) -> npt.NDArray[np.int8]:
    """Return why each row goes: its content, or else its id, belongs to one before it that stays.

    The first `old` rows are of earlier versions: they stay, and take no id.
    """
    seen, taken, held = (np.zeros(len(contents), dtype=bool) for _ in range(3))
    held[contents[:old]] = True
    reasons = np.full(len(contents), _STAYS, dtype=np.int8)
    for row in range(old, len(contents)):
        content, identity = contents[row], ids[row]
        if held[content]:
            reasons[row] = _EARLIER
            taken[identity] = True  # else a shorter state of a conversation that is held would come in as new
        elif seen[content]:
            reasons[row] = _SAME_CONTENT
        elif taken[identity]:
            reasons[row] = _SAME_ID
        else:
            seen[content] = taken[identity] = True
    return reasons


def _with_earlier(reasons: npt.NDArray[np.int8], contents: Indices, ids: Indices) -> None:
    """Count what went as a duplicate of a row that an earlier version holds as held with it.

    Else an erasure, which knows no earlier version, would put such a duplicate in its place.
    """
    gone = reasons == _EARLIER
    copies = (reasons == _SAME_CONTENT) & np.isin(contents, contents[gone])
    copies |= (reasons == _SAME_ID) & np.isin(ids, ids[gone])
    reasons[copies] = _EARLIER


def _counted(reasons: npt.NDArray[np.int8]) -> dict[str, int]:
    named = {
        _SAME_CONTENT: DropReason.EXACT_DUPLICATE,
        _SAME_ID: DropReason.DUPLICATE_ID,
        _NEAR: DropReason.NEAR_DUPLICATE,
        _EARLIER: DropReason.IN_EARLIER_VERSION,
    }
    counts = {str(name): int((reasons == reason).sum()) for reason, name in named.items()}
    return {name: count for name, count in counts.items() if count}


def _columns_of(chunks: Sequence[pa.ListArray]) -> Iterator[Bands]:
    """Yield each band of all rows, [rows], one after another."""
    parts = [np.asarray(chunk.flatten()).reshape(-1, BANDS) for chunk in chunks]
    for place in range(BANDS):
        yield np.concatenate([np.zeros(0, dtype=np.uint32), *(part[:, place] for part in parts)])


def _similar(
    bands: Iterable[Bands], rows: Indices, keys: Indices, shingles: Shingles, old: bool
) -> tuple[Indices, npt.NDArray[np.float64]]:
    """Return the pairs of `rows`, one of them new, that MinHash proposes, [pairs, 2], and their true Jaccard.

    Pairs are places in `rows` and in `keys`; `old` says whether some are not new, which have keys below zero.
    `bands` are of all rows.
    """
    pairs = candidate_pairs(band[rows] for band in bands)
    pairs = pairs[keys[pairs].max(axis=1, initial=0) >= 0] if old else pairs
    # Groups of alike rows stay together, so that few rows are asked for twice.
    pairs = pairs[np.argsort(components(len(rows), pairs)[pairs[:, 0]], kind="stable")]
    similarity = np.zeros(len(pairs))
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        part = keys[pairs[start : start + PAIRS_AT_ONCE]]
        sets = shingles(np.unique(part).tolist())
        similarity[start : start + len(part)] = [jaccard(sets[one], sets[other]) for one, other in part.tolist()]
    return pairs, similarity
