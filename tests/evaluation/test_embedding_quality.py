"""Embedding metrics against hand-made rankings, closed forms and a second way to compute them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mongars.errors import InputError
from mongars.evaluation.embedding_quality import (
    alignment,
    effective_rank,
    mean_estimate,
    relevant_ranks,
    retrieval,
    sts_spearman,
    sts_spearman_estimate,
    uniformity,
)


def unit_vectors(angles):
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_metrics_of_a_hand_made_ranking_are_those_computed_by_hand():
    scores = np.zeros((3, 12))
    scores[0, 0] = 1  # rank 1
    scores[1, 1], scores[1, [4, 5]] = 1, 2  # rank 3
    scores[2, 2], scores[2, 3:] = -1, np.arange(9)  # rank 12
    scores[2, :2] = 5
    assert relevant_ranks(scores, np.arange(3)).tolist() == [1, 3, 12]
    found = retrieval(scores, np.arange(3))
    assert found.recall_at_1.tolist() == [1, 0, 0]
    assert found.recall_at_10.tolist() == [1, 1, 0]
    assert found.mrr == pytest.approx([1, 1 / 3, 1 / 12])
    assert found.ndcg_at_10 == pytest.approx([1, 0.5, 0])


def test_constant_scores_find_nothing():
    found = retrieval(np.zeros((50, 50)), np.arange(50))
    assert found.recall_at_10.sum() == 0
    assert found.mrr == pytest.approx(1 / 50)


@given(
    arrays.arrays(np.float64, (5, 9), elements=st.integers(-3, 3).map(float)),
    st.lists(st.integers(0, 8), min_size=5, max_size=5),
)
def test_rank_counts_the_other_documents_with_no_lower_score(scores, relevant):
    expected = [
        1 + sum(scores[query, other] >= scores[query, document] for other in range(9) if other != document)
        for query, document in enumerate(relevant)
    ]
    assert relevant_ranks(scores, np.array(relevant)).tolist() == expected


def test_one_document_may_be_relevant_to_several_queries():
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.4]])
    assert relevant_ranks(scores, np.array([0, 0, 0])).tolist() == [1, 2, 2]


@given(arrays.arrays(np.float64, (4, 15), elements=st.floats(-1, 1)))
def test_the_metrics_bound_each_other(scores):
    found = retrieval(scores, np.arange(4))
    assert (found.recall_at_1 <= found.ndcg_at_10).all()
    assert (found.ndcg_at_10 <= found.recall_at_10).all()
    assert (found.recall_at_1 <= found.mrr).all()


@pytest.mark.parametrize("scores", [np.zeros(3), np.zeros((3, 2)), np.zeros((0, 0)), np.full((2, 2), np.nan)])
def test_scores_of_a_wrong_shape_or_without_a_finite_value_are_refused(scores):
    with pytest.raises(InputError):
        relevant_ranks(scores, np.arange(2))


def test_spearman_is_plus_or_minus_one_for_monotonic_scores():
    angles = np.linspace(0.1, 3, 20)
    left, right = unit_vectors(np.zeros(20)), unit_vectors(angles)
    assert sts_spearman(left, right, np.exp(-angles)) == pytest.approx(1)
    assert sts_spearman(left, right, angles**3) == pytest.approx(-1)


def test_spearman_is_the_pearson_correlation_of_the_ranks():
    rng = np.random.default_rng(3)
    angles, gold = rng.permutation(np.linspace(0.1, 3, 30)), rng.permutation(30).astype(float)
    ranks = np.argsort(np.argsort(np.cos(angles)))
    found = sts_spearman(unit_vectors(np.zeros(30)), unit_vectors(angles), gold)
    assert found == pytest.approx(np.corrcoef(ranks, gold)[0, 1])


def test_constant_gold_scores_are_refused():
    vectors = unit_vectors(np.linspace(0, 1, 4))
    with pytest.raises(InputError, match="gold scores"):
        sts_spearman(vectors, vectors[::-1], np.ones(4))


def test_pairs_of_other_shapes_are_refused():
    vectors = unit_vectors(np.linspace(0, 1, 4))
    with pytest.raises(InputError, match="equal shapes"):
        sts_spearman(vectors, vectors[:3], np.arange(4.0))
    with pytest.raises(InputError, match="as many gold scores"):
        sts_spearman(vectors, vectors[::-1], np.arange(3.0))


def test_spearman_interval_contains_the_value_and_repeats_with_its_seed():
    rng = np.random.default_rng(1)
    angles = rng.uniform(0.1, 3, 60)
    gold = -angles + rng.normal(0, 1, 60)
    sample = unit_vectors(np.zeros(60)), unit_vectors(angles), gold
    first = sts_spearman_estimate(*sample, seed=5)
    assert first.low < first.value < first.high
    assert first.value == pytest.approx(sts_spearman(*sample))
    assert first == sts_spearman_estimate(*sample, seed=5)
    assert first != sts_spearman_estimate(*sample, seed=6)


def test_spearman_interval_is_that_of_resampled_pairs():
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


def test_interval_of_a_normal_mean_is_about_four_standard_errors_wide():
    values = np.random.default_rng(2).normal(0, 1, 400)
    estimate = mean_estimate(values)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_estimates_have_the_names_of_the_metrics():
    estimates = retrieval(np.eye(20), np.arange(20)).estimates()
    assert list(estimates) == ["recall_at_1", "recall_at_10", "mrr", "ndcg_at_10"]
    assert {(each.value, each.low, each.high) for each in estimates.values()} == {(1.0, 1.0, 1.0)}


VECTORS = arrays.arrays(np.float64, (7, 4), elements=st.floats(-1, 1))


def rotation(seed):
    """A random rotation or reflection of four dimensions."""
    orthogonal, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))
    return orthogonal


def test_equal_vectors_have_uniformity_0_and_rank_1():
    vectors = np.tile(unit_vectors(np.array([0.3])), (300, 1))
    assert uniformity(vectors) == pytest.approx(0, abs=1e-6)
    assert effective_rank(vectors) == pytest.approx(1)
    assert alignment(vectors, vectors) == 0


def test_orthonormal_vectors_have_full_rank_and_squared_distance_2():
    vectors = np.eye(300)  # more than a block of rows
    assert effective_rank(vectors) == pytest.approx(300)
    assert uniformity(vectors) == pytest.approx(-4)  # log exp(-2 * 2)
    assert alignment(vectors, np.roll(vectors, 1, axis=0)) == pytest.approx(2)


def test_opposite_vectors_reach_the_bounds_of_alignment_and_uniformity():
    vectors = np.array([[1.0, 0.0], [-1.0, 0.0]])
    assert uniformity(vectors) == pytest.approx(-8)
    assert alignment(vectors, -vectors) == 4
    assert effective_rank(vectors) == pytest.approx(1)  # one line


def test_uniformity_of_an_even_circle_is_its_closed_form():
    count = 500
    vectors = unit_vectors(2 * np.pi * np.arange(count) / count)
    # the mean over the circle of exp(-2 (2 - 2 cos a)) is exp(-4) I0(4), less the 1 of a row with itself
    mean = np.exp(-4) * np.i0(4.0)
    assert uniformity(vectors) == pytest.approx(np.log((count * mean - 1) / (count - 1)), abs=1e-6)
    assert effective_rank(vectors) == pytest.approx(2)


def test_effective_rank_is_the_exponential_of_the_entropy_of_singular_values():
    # 3 and 1: shares 3/4 and 1/4
    assert effective_rank(np.diag([3.0, 1.0])) == pytest.approx(np.exp(0.75 * np.log(4 / 3) + 0.25 * np.log(4)))


@given(VECTORS, st.integers(0, 1000))
def test_spread_is_invariant_under_permutation_and_rotation(vectors, seed):
    vectors[0, 0] = 1  # not all zero
    order = np.random.default_rng(seed).permutation(7)
    for metric in (uniformity, effective_rank):
        expected = metric(vectors)
        assert metric(vectors[order]) == pytest.approx(expected, abs=1e-6)
        assert metric(vectors @ rotation(seed)) == pytest.approx(expected, abs=1e-6)


@given(VECTORS, VECTORS, st.integers(0, 1000))
def test_alignment_is_the_mean_squared_distance_and_invariant_under_symmetries(left, right, seed):
    order = np.random.default_rng(seed).permutation(7)
    expected = alignment(left, right)
    assert expected == pytest.approx(np.mean([np.sum((a - b) ** 2) for a, b in zip(left, right, strict=True)]))
    assert alignment(right[order], left[order]) == pytest.approx(expected)
    assert alignment(left @ rotation(seed), right @ rotation(seed)) == pytest.approx(expected)


@given(VECTORS)
def test_uniformity_is_the_mean_over_all_pairs_of_rows(vectors):
    distances = [np.sum((vectors[i] - vectors[j]) ** 2) for i in range(7) for j in range(i)]
    assert uniformity(vectors) == pytest.approx(np.log(np.mean(np.exp(-2 * np.array(distances)))), abs=1e-9)


@given(VECTORS, st.floats(0.1, 10))
def test_effective_rank_is_between_1_and_the_dimensions_and_ignores_scale(vectors, scale):
    vectors[0, 0] = 1
    rank = effective_rank(vectors)
    assert 1 - 1e-9 <= rank <= 4 + 1e-9
    assert effective_rank(scale * vectors) == pytest.approx(rank)


@pytest.mark.parametrize("vectors", [np.zeros((3, 2)), np.zeros(3), np.zeros((0, 2)), np.full((2, 2), np.nan)])
def test_zero_empty_or_non_finite_vectors_are_refused(vectors):
    with pytest.raises(InputError):
        effective_rank(vectors)


def test_too_few_vectors_for_uniformity_or_alignment_are_refused():
    with pytest.raises(InputError):
        uniformity(np.ones((1, 2)))
    with pytest.raises(InputError):
        alignment(np.zeros((0, 2)), np.zeros((0, 2)))
