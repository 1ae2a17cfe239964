"""Confidence intervals by the percentile bootstrap, shared by the gate and the benchmarks.

Units are resampled whole (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13): a conversation
with all of its targets or queries, because those within one conversation are not independent. For a paired test
the caller passes differences (Koehn, EMNLP 2004).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mongars.errors import InputError

# 2,000 resamples put the 2.5 % quantile within 0.3 % (one standard error).
RESAMPLES = 2000
CONFIDENCE = 0.95
# Bounds the memory: 1 MiB of indices and as much of each value. Larger blocks are slower, too.
INDICES_PER_BLOCK = 1 << 17


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its confidence interval, of 95 % by default."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def ratio_estimate(
    numerators: np.ndarray,
    denominators: np.ndarray,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Return sum(numerators) / sum(denominators) with its interval; both are float64 [units].

    A single unit has an interval of width zero. Raises InputError without a unit, for values that are not finite
    and for a denominator that is not positive.
    """
    if numerators.shape != denominators.shape or numerators.ndim != 1 or not numerators.size:
        raise InputError(
            f"A ratio needs as many numerators as denominators: {numerators.shape}, {denominators.shape}."
        )
    if not (np.isfinite(numerators).all() and np.isfinite(denominators).all() and (denominators > 0).all()):
        raise InputError("A ratio needs finite values, and denominators above zero.")
    value = float(_ratio(numerators, denominators))
    if numerators.size == 1:
        return Estimate(value, value, value)
    low, high = percentile_interval(
        (numerators, denominators), _ratio, confidence=confidence, resamples=resamples, seed=seed
    )
    return Estimate(value, low, high)


def percentile_interval(
    units: Sequence[np.ndarray],
    statistic: Callable[..., np.ndarray],
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the interval of a statistic of paired arrays, [units] each, of which there are at least two.

    `statistic(*units, axis=)` computes many resamples at once, along the last axis.
    """
    from scipy import stats  # slow to import, and the command line reads this module

    result = stats.bootstrap(
        units,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, INDICES_PER_BLOCK // units[0].size),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return float(low), float(high)


def _ratio(numerators: np.ndarray, denominators: np.ndarray, axis: int = -1) -> np.ndarray:
    ratios: np.ndarray = numerators.sum(axis=axis) / denominators.sum(axis=axis)
    return ratios
