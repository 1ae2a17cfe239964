"""Quality metrics of embeddings: correlation with human similarity scores, retrieval, and spread on the sphere.

Plain arithmetic on arrays. Ties are pessimistic: a document with the score of the relevant one ranks before it, so
constant scores find nothing.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from mongars.errors import InputError
from mongars.evaluation.bootstrap import Estimate, percentile_interval, ratio_estimate

CUTOFF = 10
UNIFORMITY_T = 2
# Rows of a block of the distance matrix, which bounds its memory: 8 MiB for 4,000 vectors.
BLOCK_ROWS = 256


@dataclass(frozen=True)
class Retrieval:
    """Scores of each query, float64 [queries]; the mean of each array is the metric of that name.

    A query has one relevant document, so recall@k is the share of queries whose document is among the first k, and
    the ideal DCG is 1.
    """

    recall_at_1: np.ndarray
    recall_at_10: np.ndarray
    mrr: np.ndarray
    ndcg_at_10: np.ndarray

    def estimates(self, seed: int = 0) -> dict[str, Estimate]:
        """Return each metric by name, with its confidence interval over queries."""
        return {name: mean_estimate(getattr(self, name), seed) for name in self.__dataclass_fields__}


def sts_similarities(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of unit vectors, float64 [pairs]. Raises InputError if shapes differ."""
    _check_pairs(left, right)
    similarities: np.ndarray = np.einsum("pd,pd->p", left, right, dtype=np.float64)
    return similarities


def sts_spearman(left: np.ndarray, right: np.ndarray, gold: np.ndarray) -> float:
    """Return Spearman's rank correlation between the cosines of unit vectors [pairs, d] and gold scores [pairs].

    Raises InputError where it is undefined: fewer than two pairs, constant scores, or scores that are not finite.
    """
    return _spearman(*_checked_pairs(sts_similarities(left, right), gold))


def sts_spearman_estimate(left: np.ndarray, right: np.ndarray, gold: np.ndarray, seed: int = 0) -> Estimate:
    """Return `sts_spearman` with its confidence interval. Also raises InputError for too few pairs."""
    pairs = _checked_pairs(sts_similarities(left, right), gold)
    low, high = percentile_interval(pairs, _rank_correlations, seed=seed)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"{len(gold)} pairs are too few for an interval: a resample has constant scores.")
    return Estimate(_spearman(*pairs), low, high)


def relevant_ranks(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Return the rank, from 1, of the relevant document of each query, int64 [queries].

    `scores` is [queries, documents], higher is better; `relevant` [queries] is the column of each query's
    document. Raises InputError if shapes differ and for scores that are not finite.
    """
    if scores.ndim != 2 or not scores.size or relevant.shape != scores.shape[:1]:  # noqa: PLR2004 (a matrix)
        raise InputError(f"Scores [queries, documents] need a relevant document a query, not {scores.shape}.")
    if not np.isfinite(scores).all():
        raise InputError("A score is not a finite number.")
    ranks: np.ndarray = (scores >= np.take_along_axis(scores, relevant[:, None], axis=1)).sum(axis=1)
    return ranks  # the relevant document counts itself


def retrieval(scores: np.ndarray, relevant: np.ndarray) -> Retrieval:
    """Return recall@1, recall@10, MRR and nDCG@10 of each query, from the arguments of `relevant_ranks`.

    nDCG@10 is 1 / log2(1 + rank) up to rank 10 (Jarvelin and Kekalainen 2002). MRR has no cut-off.
    """
    ranks = relevant_ranks(scores, relevant).astype(np.float64)
    found = ranks <= CUTOFF
    return Retrieval(
        recall_at_1=(ranks == 1).astype(np.float64),
        recall_at_10=found.astype(np.float64),
        mrr=1 / ranks,
        ndcg_at_10=found / np.log2(1 + ranks),
    )


def mean_estimate(values: np.ndarray, seed: int = 0) -> Estimate:
    """Return the mean of values [queries] with its confidence interval. Raises InputError without a value."""
    return ratio_estimate(values, np.ones(len(values)), seed=seed)


def alignment(left: np.ndarray, right: np.ndarray) -> float:
    """Return the mean squared distance of positive pairs, rows of `left` and `right` [pairs, d].

    Wang and Isola 2020 (arXiv 2005.10242), alpha 2. 0 if all pairs coincide, and at most 4 for unit vectors.
    Raises InputError if shapes differ or there is no pair.
    """
    _check_pairs(left, right)
    differences = left.astype(np.float64) - right
    return float(np.einsum("pd,pd->", differences, differences) / len(left))


def uniformity(vectors: np.ndarray) -> float:
    """Return how evenly vectors [n, d] are spread: log of the mean of exp(-2 |x - y|^2) over pairs of rows.

    Wang and Isola 2020 (arXiv 2005.10242), t 2. 0 is a collapse into one point; lower is more even, and unit
    vectors never fall below -8. Raises InputError for other shapes or fewer than two rows.
    """
    exact = _matrix(vectors, least=2)
    squares = np.einsum("nd,nd->n", exact, exact)
    total = 0.0
    for start in range(0, len(exact), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        distances = squares[rows, None] + squares - 2 * (exact[rows] @ exact.T)
        kernel = np.exp(-UNIFORMITY_T * np.maximum(distances, 0))
        total += kernel.sum() - np.trace(kernel, offset=start)  # a row and itself are not a pair
    return float(np.log(total / (len(exact) * (len(exact) - 1))))


def effective_rank(vectors: np.ndarray) -> float:
    """Return the effective number of directions of vectors [n, d]: exp of the entropy of their singular values.

    Roy and Vetterli 2007 (EUSIPCO). Between 1, all on one line, and min(n, d). Raises InputError for other shapes
    and if every vector is zero.
    """
    singular = np.linalg.svd(_matrix(vectors, least=1), compute_uv=False)
    if not singular.any():
        raise InputError("Vectors that are all zero have no effective rank.")
    shares = singular[singular > 0] / singular.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _check_pairs(left: np.ndarray, right: np.ndarray) -> None:
    if left.ndim != 2 or not left.size or left.shape != right.shape:  # noqa: PLR2004 (a matrix)
        raise InputError(f"Pairs of vectors have equal shapes [pairs, d], not {left.shape} and {right.shape}.")


def _matrix(vectors: np.ndarray, least: int) -> np.ndarray:
    if vectors.ndim != 2 or len(vectors) < least or not np.isfinite(vectors).all():  # noqa: PLR2004 (a matrix)
        raise InputError(f"At least {least} finite vectors [n, d] are needed; these are {vectors.shape}.")
    return vectors.astype(np.float64)


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    return float(stats.spearmanr(first, second).statistic)


def _rank_correlations(first: np.ndarray, second: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return Spearman's correlation of many resamples at once: by definition Pearson's of the ranks."""
    ranks = (stats.rankdata(values, axis=axis) for values in (first, second))
    correlations: np.ndarray = stats.pearsonr(*ranks, axis=axis).statistic
    return correlations


def _checked_pairs(similarities: np.ndarray, gold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if gold.shape != similarities.shape:
        raise InputError(f"{len(similarities)} pairs need as many gold scores, not {gold.shape}.")
    for name, values in (("similarities", similarities), ("gold scores", gold)):
        if not np.isfinite(values).all() or len(np.unique(values)) < 2:  # noqa: PLR2004 (else no ranks)
            raise InputError(f"The {name} have no two different finite values: there is no rank correlation.")
    return similarities, gold
