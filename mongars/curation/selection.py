"""Which cleaned rows make the version: duplicates go, the rest gets a split.

Owns the order of preference and the reasons. Must not know Ray: it sees columns, and asks for shingles where it
needs them. The result does not depend on the order in which rows arrive.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mongars.curation.cleaning import KEPT
from mongars.curation.dedup import BANDS, Hashes, Indices, candidate_pairs, components, jaccard
from mongars.curation.quality import DropReason
from mongars.curation.recipe import CurationRecipe
from mongars.curation.splits import assign_splits

# The columns of CLEAN_SCHEMA that a selection reads: everything but the text.
COLUMNS = ("key", "id", "subject", "turns", "digest", "content", "bands")
# Conversations this much alike are not dropped, but never stand on both sides of a split.
SPLIT_JACCARD = 0.6
_STAYS, _SAME_CONTENT, _SAME_ID = range(3)
Shingles = Callable[[Sequence[int]], Mapping[int, Hashes]]


@dataclass(frozen=True, slots=True)
class Selection:
    """The keys that stay, the split of each, those of the duplicates, and how many went for which reason.

    Keys are ascending.
    """

    keys: Indices
    splits: npt.NDArray[np.str_]
    duplicates: Indices
    dropped: Mapping[str, int]


def select(cleaned: pa.Table, recipe: CurationRecipe, shingles: Shingles) -> Selection:
    """Choose among the rows whose outcome is KEPT; `shingles(keys)` gives the shingle hashes of rows.

    Of a million rows the columns take 0.4 GB and what is computed here 1 GB more: arrays, no Python objects.
    """
    candidates = cleaned.filter(pc.equal(cleaned["outcome"], KEPT)).select(COLUMNS)
    order = _preference(candidates)
    keys = candidates["key"].to_numpy()[order]
    reasons = _exact(_codes(candidates["content"])[order], _codes(candidates["id"])[order])
    alone = np.flatnonzero(reasons == _STAYS)
    pairs, similarity = _similar(_bands(candidates["bands"]), order[alone], keys[alone], shingles)
    near = pairs[similarity >= recipe.near_duplicate_jaccard]
    first = components(len(alone), near) == np.arange(len(alone))
    alike = components(len(alone), pairs[similarity >= min(SPLIT_JACCARD, recipe.near_duplicate_jaccard)])
    kept = np.flatnonzero(first)
    splits = assign_splits(
        candidates["subject"].take(pa.array(order[alone[kept]])),
        # Renumbered by the first row of a cluster that stays, which its smallest row does.
        np.searchsorted(kept, alike[kept]),
        test_share=recipe.test_share,
        seed=recipe.split_seed,
    )
    stay = keys[alone[kept]]
    ascending = np.argsort(stay)
    return Selection(
        stay[ascending],
        splits[ascending],
        np.setdiff1d(keys, stay),
        _counted(reasons, near_duplicates=len(alone) - len(kept)),
    )


def _preference(rows: pa.Table) -> Indices:
    """Return the rows' order: by id, of the same id the longest conversation first, then by content."""
    keys = [("id", "ascending"), ("turns", "descending"), ("digest", "ascending")]
    return np.asarray(pc.sort_indices(rows.select(["id", "turns", "digest"]), sort_keys=keys)).astype(np.int64)


def _codes(column: pa.ChunkedArray) -> Indices:
    """Return a number for each row that is the same where the values are."""
    return np.asarray(column.combine_chunks().dictionary_encode().indices).astype(np.int64)


def _exact(contents: Indices, identities: Indices) -> npt.NDArray[np.int8]:
    """Return why each row goes: its content, or else its id, belongs to an earlier row that stays."""
    count = len(contents)
    content_seen, id_taken = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    reasons = np.zeros(count, dtype=np.int8)
    for row, (content, identity) in enumerate(zip(contents, identities, strict=True)):
        if content_seen[content]:
            reasons[row] = _SAME_CONTENT
        elif id_taken[identity]:
            reasons[row] = _SAME_ID
        else:
            content_seen[content] = id_taken[identity] = True
    return reasons


def _counted(reasons: npt.NDArray[np.int8], near_duplicates: int) -> dict[str, int]:
    counts = {
        DropReason.EXACT_DUPLICATE: int((reasons == _SAME_CONTENT).sum()),
        DropReason.DUPLICATE_ID: int((reasons == _SAME_ID).sum()),
        DropReason.NEAR_DUPLICATE: near_duplicates,
    }
    return {str(reason): count for reason, count in counts.items() if count}


def _bands(column: pa.ChunkedArray) -> Hashes:
    """Return the bands of all rows, [rows, BANDS]."""
    parts = [np.asarray(chunk.flatten()).astype(np.uint64, copy=False) for chunk in column.chunks]
    return np.concatenate([np.zeros(0, dtype=np.uint64), *parts]).reshape(-1, BANDS)


def _similar(
    bands: Hashes, rows: Indices, keys: Indices, shingles: Shingles
) -> tuple[Indices, npt.NDArray[np.float64]]:
    """Return the pairs of `rows` that MinHash proposes, [pairs, 2], and the true Jaccard similarity of each.

    Pairs are places in `rows` and in `keys`; `bands` are of all rows.
    """
    pairs = candidate_pairs(band[rows] for band in bands.T)
    if not len(pairs):
        return pairs, np.zeros(0)
    sets = shingles(keys[np.unique(pairs)].tolist())
    similarity = [jaccard(sets[one], sets[other]) for one, other in keys[pairs].tolist()]
    return pairs, np.array(similarity)
