"""Which cleaned rows make the version: duplicates go, the rest gets a split.

Owns the order of preference and the reasons. Must not know Ray: it sees columns, and asks for shingles where it
needs them. The result does not depend on the order in which rows arrive.
"""

from collections import Counter
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
    """Choose among the rows whose outcome is KEPT; `shingles(keys)` gives the shingle hashes of rows."""
    rows = cleaned.filter(pc.equal(cleaned["outcome"], KEPT)).select(COLUMNS)
    rows = rows.take(_preference(rows))
    reasons = _exact(rows)
    alone = np.array([row for row, reason in enumerate(reasons) if reason is None], dtype=np.int64)
    unique = rows.take(alone)
    pairs, similarity = _similar(unique, shingles)
    clusters = components(len(alone), pairs[similarity >= recipe.near_duplicate_jaccard])
    first = clusters == np.arange(len(alone))
    alike = components(len(alone), pairs[similarity >= min(SPLIT_JACCARD, recipe.near_duplicate_jaccard)])
    kept, splits = _split(unique, first, alike, recipe)
    dropped = Counter(str(reason) for reason in reasons if reason)
    if duplicates := int((~first).sum()):
        dropped[DropReason.NEAR_DUPLICATE] = duplicates
    stay: Indices = kept["key"].to_numpy()
    ascending = np.argsort(stay)
    aside = np.setdiff1d(rows["key"].to_numpy(), stay)
    return Selection(stay[ascending], np.array(splits, dtype=np.str_)[ascending], aside, dict(dropped))


def _preference(rows: pa.Table) -> Indices:
    """Return the rows' order: by id, of the same id the longest conversation first, then by content."""
    columns = zip(*(rows[name].to_pylist() for name in ("id", "turns", "digest")), strict=True)
    sort_keys = [(identity, -turns, digest) for identity, turns, digest in columns]
    return np.array(sorted(range(len(sort_keys)), key=sort_keys.__getitem__), dtype=np.int64)


def _exact(rows: pa.Table) -> list[DropReason | None]:
    """Return why each row goes: its id, or its content, belongs to an earlier row that stays."""
    content_of_id: dict[str, bytes] = {}
    seen: set[bytes] = set()
    reasons: list[DropReason | None] = []
    for identity, content in zip(rows["id"].to_pylist(), rows["content"].to_pylist(), strict=True):
        if content in seen:
            reasons.append(DropReason.EXACT_DUPLICATE)
        elif identity in content_of_id:
            reasons.append(DropReason.DUPLICATE_ID)
        else:
            reasons.append(None)
            content_of_id[identity] = content
            seen.add(content)
    return reasons


def _similar(rows: pa.Table, shingles: Shingles) -> tuple[Indices, npt.NDArray[np.float64]]:
    """Return the pairs that MinHash proposes, [pairs, 2], and the true Jaccard similarity of each."""
    bands = np.array(rows["bands"].to_pylist(), dtype=np.uint64).reshape(rows.num_rows, BANDS)
    pairs = candidate_pairs(bands)
    if not len(pairs):
        return pairs, np.zeros(0)
    keys = rows["key"].to_pylist()
    sets = shingles([keys[row] for row in np.unique(pairs).tolist()])
    similarity = [jaccard(sets[keys[one]], sets[keys[other]]) for one, other in pairs.tolist()]
    return pairs, np.array(similarity)


def _split(
    rows: pa.Table, first: npt.NDArray[np.bool_], alike: Indices, recipe: CurationRecipe
) -> tuple[pa.Table, list[str]]:
    """Return the rows that stay and their splits."""
    kept = np.flatnonzero(first)
    # Renumber the clusters by their first row that stays: a cluster's smallest row always does.
    place = {row: number for number, row in enumerate(kept.tolist())}
    clusters = np.array([place[row] for row in alike[kept].tolist()], dtype=np.int64)
    table = rows.take(kept)
    splits = assign_splits(
        table["subject"].to_pylist(), clusters, test_share=recipe.test_share, seed=recipe.split_seed
    )
    return table, splits
