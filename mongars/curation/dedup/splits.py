"""Which rows are held out: whole subjects and whole clusters of similar rows, so that nothing leaks into test."""

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mongars.curation.dedup.minhash import Indices, components

TRAIN, TEST = "train", "test"
# Splits of rows that are set aside, so that no reader of a split takes them: duplicates within this version, and
# rows that a prior version has.
DUPLICATE, PRIOR = "duplicate", "earlier"


def assign_splits(
    subjects: pa.ChunkedArray,
    clusters: Indices,
    *,
    test_share: float,
    seed: int,
    pinned: npt.NDArray[np.str_] | None = None,
) -> npt.NDArray[np.str_]:
    """Return the split of each row. Rows connected by shared subjects or clusters form a group with one split.

    `clusters[i]` is any row of row i's cluster. The hash of a group's smallest subject decides its split, so it
    does not depend on the order of the rows and does not change when other subjects are added. The one exception:
    if a side were empty, which happens with a handful of people, the nearest group changes sides.

    `pinned[i]` is the split that row i must have, "" for any. A group with pinned rows takes their split, and test
    where they differ: nothing similar to a held-out row is ever trained on.
    """
    encoded = pc.rank(subjects, sort_keys="ascending", tiebreaker="dense")
    rank = np.asarray(encoded).astype(np.int64) - 1  # of each row's subject among all of them
    _, first = np.unique(rank, return_index=True)  # the first row of each subject
    rows = np.arange(len(rank))
    pairs = np.concatenate((np.column_stack((first[rank], rows)), np.column_stack((rows, clusters))))
    _, group = np.unique(components(len(rows), pairs), return_inverse=True)
    smallest = np.full(group.max(initial=-1) + 1, len(rows))
    np.minimum.at(smallest, group, rank)
    places = np.array([_place(subjects[int(first[subject])].as_py(), seed) for subject in smallest])
    held_out, free = places < test_share, np.ones(len(places), dtype=bool)
    if pinned is not None:
        free[group[pinned != ""]] = False
        held_out &= free
        held_out[group[pinned == TEST]] = True
    among = np.flatnonzero(free)
    if len(among) > 1 and test_share > 0:
        held_out[among[places[among].argmin()]] = True
        held_out[among[places[among].argmax()]] = False
    return np.where(held_out[group], TEST, TRAIN)


def _place(subject: str, seed: int) -> float:
    """Return the subject's hash as a number from 0 to 1."""
    hashed = hashlib.sha256(f"{seed}\0{subject}".encode()).digest()
    return int.from_bytes(hashed[:8], "big") / 2**64
