"""The split: no subject is on both sides, and order does not matter."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from mongars.curation.dedup.splits import TEST, TRAIN, assign_splits

rows = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 30)), min_size=1, max_size=30)


def split(some, seed=0, test_share=0.3):
    clusters = np.array([min(target, row) for row, (_, target) in enumerate(some)], dtype=np.int64)
    subjects = pa.chunked_array([[subject for subject, _ in some]], pa.string())
    return clusters, assign_splits(subjects, clusters, test_share=test_share, seed=seed).tolist()


@given(rows, st.integers(0, 50))
def test_a_subject_and_a_cluster_are_on_one_side_only(some, seed):
    clusters, splits = split(some, seed)
    for row, (subject, _) in enumerate(some):
        assert splits[row] == splits[clusters[row]]
        assert {splits[other] for other, (name, _) in enumerate(some) if name == subject} == {splits[row]}


def test_the_test_share_is_met_over_many_subjects():
    _, splits = split([(f"subject {n}", n) for n in range(5000)], test_share=0.1)
    assert 0.08 < splits.count(TEST) / 5000 < 0.12


def test_a_handful_of_people_gives_both_sides():
    for seed in range(50):
        _, splits = split([("a", 0), ("b", 1), ("c", 2)], seed, test_share=0.01)
        assert {TRAIN, TEST} == set(splits)


def test_a_single_person_and_a_test_share_of_zero_hold_out_nobody():
    assert split([("a", 0)], test_share=0.0)[1] == [TRAIN]
    assert set(split([("a", 0), ("b", 1)], test_share=0.0)[1]) == {TRAIN}


def test_a_subject_keeps_its_side_when_others_are_added():
    _, few = split([(f"s{n}", n) for n in range(100)])
    _, more = split([(f"s{n}", n) for n in range(300)])
    assert more[:100] == few


def test_a_group_with_a_pinned_row_takes_its_split_and_test_wins():
    subjects, clusters = pa.chunked_array([["a", "b", "a", "c", "c", "d"]]), np.array([0, 1, 2, 3, 4, 1])
    pinned = np.array([TEST, TRAIN, "", TRAIN, TEST, ""])
    for seed in range(20):
        splits = assign_splits(subjects, clusters, test_share=0.5, seed=seed, pinned=pinned)
        assert splits[2] == TEST
        assert splits[5] == TRAIN
        assert splits[3] == splits[4] == TEST
