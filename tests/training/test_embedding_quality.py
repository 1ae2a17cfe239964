"""Figures against hand-made rankings and a second way to compute them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mongars.errors import InputError
from mongars.training.embedding_quality import (
    mean_estimate,
    retrieval,
    right_ranks,
    sts_spearman,
    sts_spearman_estimate,
)


def unit_vectors(angles):
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_a_ranking_known_by_hand_gives_the_metrics_known_by_hand():
    scores = np.zeros((3, 12))
    scores[0, 0] = 1  # rank 1
    scores[1, 1], scores[1, [4, 5]] = 1, 2  # rank 3
    scores[2, 2], scores[2, 3:] = -1, np.arange(9)  # rank 12
    scores[2, :2] = 5
    assert right_ranks(scores).tolist() == [1, 3, 12]
    found = retrieval(scores)
    assert found.recall_at_1.tolist() == [1, 0, 0]
    assert found.recall_at_10.tolist() == [1, 1, 0]
    assert found.mrr == pytest.approx([1, 1 / 3, 1 / 12])
    assert found.ndcg_at_10 == pytest.approx([1, 0.5, 0])


def test_scores_that_tell_nothing_apart_find_nothing():
    found = retrieval(np.zeros((50, 50)))
    assert found.recall_at_10.sum() == 0
    assert found.mrr == pytest.approx(1 / 50)


@settings(deadline=None)  # no test asserts a time
@given(arrays.arrays(np.float64, (5, 9), elements=st.integers(-3, 3).map(float)))
def test_a_rank_is_one_more_than_the_other_documents_that_score_no_less(scores):
    expected = [
        1 + sum(scores[query, other] >= scores[query, query] for other in range(9) if other != query)
        for query in range(5)
    ]
    assert right_ranks(scores).tolist() == expected


@settings(deadline=None)  # no test asserts a time
@given(arrays.arrays(np.float64, (4, 15), elements=st.floats(-1, 1)))
def test_the_metrics_bound_each_other(scores):
    found = retrieval(scores)
    assert (found.recall_at_1 <= found.ndcg_at_10).all()
    assert (found.ndcg_at_10 <= found.recall_at_10).all()
    assert (found.recall_at_1 <= found.mrr).all()


@pytest.mark.parametrize("scores", [np.zeros(3), np.zeros((3, 2)), np.zeros((0, 0)), np.full((2, 2), np.nan)])
def test_scores_without_a_diagonal_or_a_number_are_refused(scores):
    with pytest.raises(InputError):
        right_ranks(scores)


def test_spearman_is_one_where_gold_follows_the_cosine_and_minus_one_where_it_runs_against_it():
    angles = np.linspace(0.1, 3, 20)
    left, right = unit_vectors(np.zeros(20)), unit_vectors(angles)
    assert sts_spearman(left, right, np.exp(-angles)) == pytest.approx(1)
    assert sts_spearman(left, right, angles**3) == pytest.approx(-1)


def test_spearman_is_the_correlation_of_the_ranks():
    rng = np.random.default_rng(3)
    angles, gold = rng.permutation(np.linspace(0.1, 3, 30)), rng.permutation(30).astype(float)
    ranks = np.argsort(np.argsort(np.cos(angles)))
    found = sts_spearman(unit_vectors(np.zeros(30)), unit_vectors(angles), gold)
    assert found == pytest.approx(np.corrcoef(ranks, gold)[0, 1])


def test_equal_gold_scores_have_no_rank_correlation():
    vectors = unit_vectors(np.linspace(0, 1, 4))
    with pytest.raises(InputError, match="gold scores"):
        sts_spearman(vectors, vectors[::-1], np.ones(4))


def test_pairs_of_other_shapes_are_refused():
    vectors = unit_vectors(np.linspace(0, 1, 4))
    with pytest.raises(InputError, match="equal shapes"):
        sts_spearman(vectors, vectors[:3], np.arange(4.0))
    with pytest.raises(InputError, match="as many gold scores"):
        sts_spearman(vectors, vectors[::-1], np.arange(3.0))


def test_an_interval_holds_its_figure_and_repeats_with_its_seed():
    rng = np.random.default_rng(1)
    angles = rng.uniform(0.1, 3, 60)
    gold = -angles + rng.normal(0, 1, 60)
    sample = unit_vectors(np.zeros(60)), unit_vectors(angles), gold
    first = sts_spearman_estimate(*sample, seed=5)
    assert first.low < first.value < first.high
    assert first.value == pytest.approx(sts_spearman(*sample))
    assert first == sts_spearman_estimate(*sample, seed=5)
    assert first != sts_spearman_estimate(*sample, seed=6)


def test_the_interval_of_a_correlation_is_that_of_resampled_pairs():
    rng = np.random.default_rng(4)
    angles = rng.uniform(0.1, 3, 80)
    gold = np.round(-angles + rng.normal(0, 1, 80))  # with ties, as people score
    left, right = unit_vectors(np.zeros(80)), unit_vectors(angles)
    resampled = [
        sts_spearman(left[drawn], right[drawn], gold[drawn])
        for drawn in (rng.integers(0, 80, 80) for _ in range(400))
    ]
    estimate = sts_spearman_estimate(left, right, gold)
    assert [estimate.low, estimate.high] == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.04)


@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_two_pairs_are_too_few_for_an_interval():
    left, right = unit_vectors(np.zeros(2)), unit_vectors(np.array([0.5, 1]))
    with pytest.raises(InputError, match="too few"):
        sts_spearman_estimate(left, right, np.array([1.0, 0.0]))


def test_the_interval_of_a_mean_is_about_four_standard_errors_wide():
    values = np.random.default_rng(2).normal(0, 1, 400)
    estimate = mean_estimate(values)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_metrics_come_with_their_intervals_by_name():
    estimates = retrieval(np.eye(20)).estimates()
    assert list(estimates) == ["recall_at_1", "recall_at_10", "mrr", "ndcg_at_10"]
    assert {(each.value, each.low, each.high) for each in estimates.values()} == {(1.0, 1.0, 1.0)}
