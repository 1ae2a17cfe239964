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
    """
    rows = cleaned.filter(pc.equal(cleaned["outcome"], KEPT)).select(COLUMNS)
    rows = rows.take(_preference(rows))
    held = rows.select(COLUMNS).slice(0, 0) if earlier is None else earlier.select(COLUMNS)
    pins = dict(pins or {})
    if earlier is not None:
        pins |= zip(earlier["key"].to_pylist(), earlier["split"].to_pylist(), strict=True)
    reasons = _exact(rows, frozenset(held["content"].to_pylist()))
    alone = np.array([row for row, reason in enumerate(reasons) if reason is None], dtype=np.int64)
    unique = pa.concat_tables([held, rows.take(alone)])
    pairs, similarity = _similar(unique, shingles, new_from=held.num_rows)
    clusters = components(unique.num_rows, pairs[similarity >= recipe.near_duplicate_jaccard])
    is_new = np.arange(unique.num_rows) >= held.num_rows
    first = (clusters == np.arange(unique.num_rows)) | ~is_new
    near_earlier = is_new & (clusters < held.num_rows)
    alike = components(unique.num_rows, pairs[similarity >= min(SPLIT_JACCARD, recipe.near_duplicate_jaccard)])
    kept, splits = _split(unique, first, alike, recipe, pins)
    kept, splits = kept.slice(held.num_rows), splits[held.num_rows :]
    reasons = _with_earlier(rows, reasons, alone[near_earlier[held.num_rows :]])
    dropped = Counter(str(reason) for reason in reasons if reason)
    dropped[DropReason.NEAR_DUPLICATE] += int((~first & ~near_earlier).sum())
    stay: Indices = kept["key"].to_numpy()
    ascending = np.argsort(stay)
    keys: Indices = rows["key"].to_numpy()
    in_earlier = np.sort(keys[[reason == DropReason.IN_EARLIER_VERSION for reason in reasons]])
    aside = np.setdiff1d(keys, np.union1d(stay, in_earlier))
    return Selection(
        stay[ascending], np.array(splits, dtype=np.str_)[ascending], aside, dict(+dropped), in_earlier
    )


def _preference(rows: pa.Table) -> Indices:
    """Return the rows' order: by id, of the same id the longest conversation first, then by content."""
    columns = zip(*(rows[name].to_pylist() for name in ("id", "turns", "digest")), strict=True)
    sort_keys = [(identity, -turns, digest) for identity, turns, digest in columns]
    return np.array(sorted(range(len(sort_keys)), key=sort_keys.__getitem__), dtype=np.int64)


def _exact(rows: pa.Table, held: frozenset[bytes]) -> list[DropReason | None]:
    """Return why each row goes: its content is `held`, or its id or content belongs to one that went before."""
    ids: set[str] = set()
    seen: set[bytes] = set()
    reasons: list[DropReason | None] = []
    for identity, content in zip(rows["id"].to_pylist(), rows["content"].to_pylist(), strict=True):
        if content in held:
            reasons.append(DropReason.IN_EARLIER_VERSION)
            ids.add(identity)  # else a shorter state of a conversation that is held would come in as new
        elif content in seen:
            reasons.append(DropReason.EXACT_DUPLICATE)
        elif identity in ids:
            reasons.append(DropReason.DUPLICATE_ID)
        else:
            reasons.append(None)
            ids.add(identity)
            seen.add(content)
    return reasons


def _with_earlier(rows: pa.Table, reasons: Sequence[DropReason | None], near: Indices) -> list[DropReason | None]:
    """Return the reasons once the rows `near` to earlier ones go, and with them what went as their duplicate.

    Else an erasure, which knows no earlier version, would put such a duplicate in their place.
    """
    held = set(near.tolist()) | {
        row for row, reason in enumerate(reasons) if reason == DropReason.IN_EARLIER_VERSION
    }
    ids, contents = rows["id"].to_pylist(), rows["content"].to_pylist()
    held_ids, held_contents = {ids[row] for row in held}, {contents[row] for row in held}
    copies = {
        row
        for row, reason in enumerate(reasons)
        if (reason == DropReason.EXACT_DUPLICATE and contents[row] in held_contents)
        or (reason == DropReason.DUPLICATE_ID and ids[row] in held_ids)
    }
    gone = held | copies
    return [DropReason.IN_EARLIER_VERSION if row in gone else reason for row, reason in enumerate(reasons)]


def _similar(rows: pa.Table, shingles: Shingles, *, new_from: int) -> tuple[Indices, npt.NDArray[np.float64]]:
    """Return the pairs with a new row that MinHash proposes, [pairs, 2], and the true Jaccard of each."""
    bands = np.array(rows["bands"].to_pylist(), dtype=np.uint64).reshape(rows.num_rows, BANDS)
    pairs = candidate_pairs(bands)
    pairs = pairs[pairs[:, 1] >= new_from]
    if not len(pairs):
        return pairs, np.zeros(0)
    keys = rows["key"].to_pylist()
    sets = shingles([keys[row] for row in np.unique(pairs).tolist()])
    similarity = [jaccard(sets[keys[one]], sets[keys[other]]) for one, other in pairs.tolist()]
    return pairs, np.array(similarity)


def _split(
    rows: pa.Table,
    first: npt.NDArray[np.bool_],
    alike: Indices,
    recipe: CurationRecipe,
    pins: Mapping[int, str],
) -> tuple[pa.Table, list[str]]:
    """Return the rows that stay and their splits."""
    kept = np.flatnonzero(first)
    # Renumber the clusters by their first row that stays: a cluster's smallest row always does.
    place = {row: number for number, row in enumerate(kept.tolist())}
    clusters = np.array([place[row] for row in alike[kept].tolist()], dtype=np.int64)
    table = rows.take(kept)
    splits = assign_splits(
        table["subject"].to_pylist(),
        clusters,
        test_share=recipe.test_share,
        seed=recipe.split_seed,
        pinned=[pins.get(key) for key in table["key"].to_pylist()],
    )
    return table, splits
