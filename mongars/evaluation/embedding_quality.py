"""How good vectors are: agreement with human similarity, finding the right document, the room that they fill.

Owns the figures and their intervals, as arithmetic on arrays. Must not know models, texts or files.

A document that scores the same as the right one is counted as ranked before it: ties are pessimistic, so a ranking
that tells nothing apart scores nothing.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from mongars.errors import InputError
from mongars.evaluation.bootstrap import CONFIDENCE, RESAMPLES, Estimate, ratio_estimate

CUTOFF = 10
# Resamples drawn at once: 100 x 1,500 pairs are a megabyte.
BATCH = 100
UNIFORMITY_T = 2
# Rows of a block of distances: 256 x 4,000 vectors are 8 MiB.
BLOCK_ROWS = 256


@dataclass(frozen=True)
class Retrieval:
    """What each query scored, float64 [queries]; the mean of each is the metric of that name.

    There is one relevant document for each query, so recall@k is the share of queries whose document is among the
    first k, and the ideal DCG is 1.
    """

    recall_at_1: np.ndarray
    recall_at_10: np.ndarray
    mrr: np.ndarray
    ndcg_at_10: np.ndarray

    def estimates(self, seed: int = 0) -> dict[str, Estimate]:
        """Return each metric with its interval over queries, by name."""
        return {name: mean_estimate(getattr(self, name), seed) for name in self.__dataclass_fields__}


def sts_similarities(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of unit vectors, float64 [pairs]. Raises InputError for other shapes."""
    _check_pairs(left, right)
    similarities: np.ndarray = np.einsum("pd,pd->p", left, right, dtype=np.float64)
    return similarities


def sts_spearman(left: np.ndarray, right: np.ndarray, gold: np.ndarray) -> float:
    """Return Spearman's rank correlation of the cosines of unit vectors [pairs, d] with gold scores [pairs].

    Raises InputError where it is not defined: fewer than two pairs, equal scores throughout, or no finite ones.
    """
    return _spearman(*_checked_pairs(sts_similarities(left, right), gold))


def sts_spearman_estimate(left: np.ndarray, right: np.ndarray, gold: np.ndarray, seed: int = 0) -> Estimate:
    """Return `sts_spearman` with its interval: pairs are resampled. Raises InputError for too few of them, too."""
    pairs = _checked_pairs(sts_similarities(left, right), gold)
    result = stats.bootstrap(
        pairs,
        _rank_correlations,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=BATCH,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = (float(bound) for bound in result.confidence_interval)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"{len(gold)} pairs are too few for an interval: a resample has equal scores throughout.")
    return Estimate(_spearman(*pairs), low, high)


def right_ranks(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the rank, from 1, of the right document of each query, int64 [queries].

    `scores` [queries, documents]: higher is better; `right` [queries] is the column of each query's
    document. Raises InputError for other shapes and for scores that are not finite.
    """
    if scores.ndim != 2 or not scores.size or right.shape != scores.shape[:1]:  # noqa: PLR2004 (a matrix)
        raise InputError(f"Scores [queries, documents] have a right document for each query, not {scores.shape}.")
    if not np.isfinite(scores).all():
        raise InputError("A score is not a finite number.")
    ranks: np.ndarray = (scores >= np.take_along_axis(scores, right[:, None], axis=1)).sum(axis=1)
    return ranks  # the right document counts itself


def retrieval(scores: np.ndarray, right: np.ndarray) -> Retrieval:
    """Return recall@1, recall@10, MRR and nDCG@10 of each query, from scores as `right_ranks` takes them.

    nDCG@10 is 1 / log2(1 + rank) up to rank 10 (Jarvelin and Kekalainen 2002), MRR has no cut-off.
    """
    ranks = right_ranks(scores, right).astype(np.float64)
    found = ranks <= CUTOFF
    return Retrieval(
        recall_at_1=(ranks == 1).astype(np.float64),
        recall_at_10=found.astype(np.float64),
        mrr=1 / ranks,
        ndcg_at_10=found / np.log2(1 + ranks),
    )


def mean_estimate(values: np.ndarray, seed: int = 0) -> Estimate:
    """Return the mean of [queries] values with its interval: queries are resampled. Raises InputError for none."""
    return ratio_estimate(values, np.ones(len(values)), seed=seed)


def alignment(left: np.ndarray, right: np.ndarray) -> float:
    """Return how far apart positive pairs lie: the mean squared distance, 0 where they coincide.

    Wang and Isola 2020 (arXiv 2005.10242), alpha 2. `left` and `right` [pairs, d] hold a pair in each row;
    of unit vectors it is at most 4. Raises InputError for other shapes or no pair.
    """
    _check_pairs(left, right)
    differences = left.astype(np.float64) - right
    return float(np.einsum("pd,pd->", differences, differences) / len(left))


def uniformity(vectors: np.ndarray) -> float:
    """Return how evenly vectors [n, d] lie: log of the mean of exp(-2 |x - y|^2) over pairs of rows.

    Wang and Isola 2020 (arXiv 2005.10242), t 2. 0 is a collapse into one point; lower is more even, and for
    unit vectors it is never below -8. Raises InputError for other shapes or fewer than two rows.
    """
    exact = _matrix(vectors, least=2)
    squares = np.einsum("nd,nd->n", exact, exact)
    total = 0.0
    for start in range(0, len(exact), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        distances = squares[rows, None] + squares - 2 * (exact[rows] @ exact.T)
        kernel = np.exp(-UNIFORMITY_T * np.maximum(distances, 0))
        total += kernel.sum() - np.trace(kernel, offset=start)  # without each row and itself
    return float(np.log(total / (len(exact) * (len(exact) - 1))))


def effective_rank(vectors: np.ndarray) -> float:
    """Return how many directions vectors [n, d] take: exp of the entropy of their singular values.

    Roy and Vetterli 2007 (EUSIPCO). From 1, all on one line, to min(n, d). Raises InputError for other
    shapes and where every vector is zero.
    """
    singular = np.linalg.svd(_matrix(vectors, least=1), compute_uv=False)
    if not singular.any():
        raise InputError("Vectors that are all zero have no rank.")
    shares = singular[singular > 0] / singular.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _check_pairs(left: np.ndarray, right: np.ndarray) -> None:
    if left.ndim != 2 or not left.size or left.shape != right.shape:  # noqa: PLR2004 (a matrix)
        raise InputError(f"Pairs of vectors have equal shapes [pairs, d], not {left.shape} and {right.shape}.")


def _matrix(vectors: np.ndarray, least: int) -> np.ndarray:
    if vectors.ndim != 2 or len(vectors) < least or not np.isfinite(vectors).all():  # noqa: PLR2004 (a matrix)
        raise InputError(f"Vectors [n, d] are finite and at least {least}; these are {vectors.shape}.")
    return vectors.astype(np.float64)


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    return float(stats.spearmanr(first, second).statistic)


def _rank_correlations(first: np.ndarray, second: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return Spearman's correlations of many resamples at once: Pearson's of the ranks, as it is defined."""
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
