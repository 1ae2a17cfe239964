"""The fusion of the lexical and the dense scores."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mongars.memory.index.fusion import DENSE_WEIGHT, LEXICAL_WEIGHT, fuse

KEYS = st.sampled_from([f"m{n}" for n in range(12)])
LEXICAL = st.dictionaries(KEYS, st.floats(0, 50))
DENSE = st.dictionaries(KEYS, st.floats(-1, 1))


def test_the_weights_add_up_to_one() -> None:
    assert pytest.approx(1.0) == LEXICAL_WEIGHT + DENSE_WEIGHT


@given(LEXICAL, DENSE)
def test_candidates_are_unique_and_sorted_by_a_score_from_0_to_1(lexical, dense) -> None:
    fused = fuse(lexical, dense)
    assert sorted(key for key, _, _ in fused) == sorted(lexical.keys() | dense.keys())
    scores = [score for _, score, _ in fused]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 + 1e-9 for score in scores)
    assert all(set(parts) == ({"lexical", "dense"} if key in dense else {"lexical"}) for key, _, parts in fused)


@given(LEXICAL, DENSE)
def test_a_candidate_that_both_retrievers_prefer_ranks_no_lower(lexical, dense) -> None:
    place = {key: score for key, score, _ in fuse(lexical, dense)}
    for one in dense:
        for other in dense:
            if lexical.get(one, 0) >= lexical.get(other, 0) and dense[one] >= dense[other]:
                assert place[one] >= place[other] - 1e-9


@given(LEXICAL)
@example({"m0": 0.0, "m1": 2.0, "m2": 5e-324})  # its quotient by the largest is 0
def test_without_vectors_the_lexical_order_stays(lexical) -> None:
    scores = [lexical[key] for key, _, _ in fuse(lexical, {})]
    assert scores == sorted(scores, reverse=True) or max(scores) == 0


def test_a_row_without_a_vector_is_scored_by_its_words() -> None:
    fused = {key: score for key, score, _ in fuse({"new": 10.0, "old": 5.0}, {"old": 0.9, "far": 0.1})}
    assert fused["new"] == 1.0
    assert fused["old"] == pytest.approx(LEXICAL_WEIGHT * 0.5 + DENSE_WEIGHT)


def test_close_cosines_are_spread_over_the_whole_range() -> None:
    assert [key for key, _, _ in fuse({}, {"a": 0.950, "b": 0.951, "c": 0.949})] == ["b", "a", "c"]
    assert fuse({}, {"only": 0.3})[0][1] == DENSE_WEIGHT
