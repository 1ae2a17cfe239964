"""How good vectors are: agreement with human similarity, and the finding of the right document.

Owns the figures and their intervals, as arithmetic on arrays. Must not know models, texts or files.

A document that scores the same as the right one is counted as ranked before it: ties are pessimistic, so a ranking
that tells nothing apart scores nothing.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from mongars.errors import InputError

CUTOFF = 10
# As in the gate: 2,000 resamples put the 2.5 % quantile within 0.3 % (one standard error).
RESAMPLES = 2000
CONFIDENCE = 0.95
# Resamples drawn at once: 100 x 1,500 pairs are a megabyte.
BATCH = 100


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % percentile bootstrap interval (Efron and Tibshirani 1993, ch. 13)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


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
    if left.ndim != 2 or left.shape != right.shape:  # noqa: PLR2004 (a matrix)
        raise InputError(f"Pairs of vectors have equal shapes [pairs, d], not {left.shape} and {right.shape}.")
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


def right_ranks(scores: np.ndarray) -> np.ndarray:
    """Return the rank, from 1, of the right document of each query, int64 [queries].

    `scores` [queries, documents] has the right document of query i in column i; higher is better. Raises
    InputError for other shapes and for scores that are not finite.
    """
    if scores.ndim != 2 or not 1 <= scores.shape[0] <= scores.shape[1]:  # noqa: PLR2004 (a matrix)
        raise InputError(f"Scores [queries, documents] have a document for each query; these are {scores.shape}.")
    if not np.isfinite(scores).all():
        raise InputError("A score is not a finite number.")
    right = np.diagonal(scores)[:, None]
    ranks: np.ndarray = (scores >= right).sum(axis=1)  # the right document counts itself
    return ranks


def retrieval(scores: np.ndarray) -> Retrieval:
    """Return recall@1, recall@10, MRR and nDCG@10 of each query, from scores as `right_ranks` takes them.

    nDCG@10 is 1 / log2(1 + rank) up to rank 10 (Jarvelin and Kekalainen 2002), MRR has no cut-off.
    """
    ranks = right_ranks(scores).astype(np.float64)
    found = ranks <= CUTOFF
    return Retrieval(
        recall_at_1=(ranks == 1).astype(np.float64),
        recall_at_10=found.astype(np.float64),
        mrr=1 / ranks,
        ndcg_at_10=found / np.log2(1 + ranks),
    )


def mean_estimate(values: np.ndarray, seed: int = 0) -> Estimate:
    """Return the mean of [queries] values with its interval: queries are resampled. Raises InputError for none."""
    if not len(values):
        raise InputError("There is nothing to take a mean of.")
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values[drawn].mean(axis=1), [tail, 1 - tail])
    return Estimate(float(values.mean()), float(low), float(high))


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
