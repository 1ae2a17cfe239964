"""How sure a figure is: the percentile bootstrap of a ratio of sums.

Owns the one resampling that the gate and the benchmarks share. Must not know what is measured.

Units are resampled whole (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13): a
conversation with all of its targets or queries, because those within one are not independent. A paired test
hands in differences (Koehn, EMNLP 2004).
"""

from dataclasses import dataclass

import numpy as np

from mongars.errors import InputError

# 2,000 resamples put the 2.5 % quantile within 0.3 % (one standard error).
RESAMPLES = 2000
CONFIDENCE = 0.95
# Units drawn at once: 8 MiB of places, and as much of each value. One resample of more units is drawn whole.
DRAWN_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval, of 95 % where nothing else is said."""

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

    The same input and seed give the same interval. Raises InputError without a unit, for values that are
    not finite and for a denominator that is not above zero.
    """
    if numerators.shape != denominators.shape or numerators.ndim != 1 or not numerators.size:
        raise InputError(
            f"A ratio needs as many numerators as denominators: {numerators.shape}, {denominators.shape}."
        )
    if not (np.isfinite(numerators).all() and np.isfinite(denominators).all() and (denominators > 0).all()):
        raise InputError("A ratio needs finite values, and denominators above zero.")
    units, random = numerators.size, np.random.default_rng(seed)
    ratios = np.empty(resamples)
    block = max(1, DRAWN_AT_ONCE // units)
    for start in range(0, resamples, block):
        drawn = random.integers(0, units, (min(block, resamples - start), units))
        ratios[start : start + block] = numerators[drawn].sum(axis=1) / denominators[drawn].sum(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return Estimate(float(numerators.sum() / denominators.sum()), float(low), float(high))
