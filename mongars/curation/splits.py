"""Which rows are held out: by subject and by near-duplicate cluster, so that nothing leaks from train into test.

Owns the one rule of the split. Must not know files or Ray.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from mongars.curation.dedup import Indices, components

TRAIN, TEST = "train", "test"
# Of rows that are set aside, so that no reader of a split takes them; the others are held by an earlier version.
DUPLICATE, EARLIER = "duplicate", "earlier"


def assign_splits(
    subjects: Sequence[str],
    clusters: Indices,
    *,
    test_share: float,
    seed: int,
    pinned: Sequence[str | None] = (),
) -> list[str]:
    """Return the split of each row; rows that share a subject or a cluster, even through others, share it.

    `clusters[i]` is any row of row i's near-duplicate cluster. A group's split hangs on the hash of its smallest
    subject: it does not depend on the order of the rows, and stays when other subjects are added. Only where that
    would leave one side empty, as it may with a handful of people, the nearest group changes sides.

    `pinned[i]` is the split that row i has already, None for a row that is new; later rows are new. A group with a
    pinned row takes its split, and test where they differ: nothing near what is held out is ever trained on.
    """
    first_of: dict[str, int] = {}
    same_subject = [(first_of.setdefault(subject, row), row) for row, subject in enumerate(subjects)]
    same_cluster = np.column_stack((np.arange(len(subjects)), clusters))
    groups = components(len(subjects), np.concatenate((np.array(same_subject).reshape(-1, 2), same_cluster)))
    smallest: dict[int, str] = {}
    for subject, group in zip(subjects, groups.tolist(), strict=True):
        smallest[group] = min(subject, smallest.get(group, subject))
    places = {group: _place(subject, seed) for group, subject in smallest.items()}
    pins = {(group, pin) for group, pin in zip(groups.tolist(), pinned, strict=False) if pin}
    free = sorted(places.keys() - {group for group, _ in pins}, key=places.__getitem__)
    held_out = {group for group in free if places[group] < test_share}
    if len(free) > 1 and test_share > 0:
        held_out |= {free[0]}
        held_out -= {free[-1]}
    held_out |= {group for group, pin in pins if pin == TEST}
    return [TEST if group in held_out else TRAIN for group in groups.tolist()]


def _place(subject: str, seed: int) -> float:
    """Return where the subject's hash falls between 0 and 1."""
    hashed = hashlib.sha256(f"{seed}\0{subject}".encode()).digest()
    return int.from_bytes(hashed[:8], "big") / 2**64
