"""The gate: a candidate is served only when it is measurably better than what is served.

Owns the statistical test. Must not know models, datasets or the registry.

Test: paired bootstrap over conversations (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13;
paired for language models by Koehn, EMNLP 2004). Conversations are resampled whole, because the targets within one
are not independent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mongars.errors import InputError, SettingsError

if TYPE_CHECKING:  # its module imports torch, which the test does not need
    from mongars.training.evaluation import Evaluation


@dataclass(frozen=True, slots=True)
class GateConfig:
    """How sure the gate must be. `margin` is in nats per target.

    2,000 resamples put the 2.5 % quantile within 0.3 % (one standard error). `min_conversations` is where the
    percentile interval begins to be of use; fewer held-out conversations promote nothing.
    """

    margin: float = 0.0
    confidence: float = 0.95
    resamples: int = 2000
    min_conversations: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.margin < 0 or not 0 < self.confidence < 1 or self.resamples < 1 or self.min_conversations < 1:
            raise SettingsError(
                f"Impossible gate: {self}.",
                remedy="margin >= 0, 0 < confidence < 1, resamples >= 1, min_conversations >= 1.",
            )


@dataclass(frozen=True, slots=True)
class Verdict:
    """`effect` is the candidate's loss less the champion's, in nats per target; below zero is better.

    `low` and `high` bound it at the configured confidence.
    """

    promote: bool
    effect: float
    low: float
    high: float
    reason: str


class Gate:
    """Judges two evaluations of the same held-out conversations and targets."""

    def __init__(self, config: GateConfig | None = None) -> None:
        self._config = config or GateConfig()

    def judge(self, champion: "Evaluation", candidate: "Evaluation") -> Verdict:
        """Return whether the upper bound of the loss difference lies below `-margin`. Same input, same verdict.

        Raises InputError when the two were not measured on the same conversations and targets.
        """
        differences, targets = _paired(champion.per_conversation, candidate.per_conversation)
        effect = float(differences.sum() / targets.sum())
        low, high = self._interval(differences, targets)
        count, needed, margin = len(targets), self._config.min_conversations, self._config.margin
        numbers = f"loss changed by {effect:+.4f} [{low:+.4f}, {high:+.4f}] over {count} conversations"
        if count < needed:
            return Verdict(False, effect, low, high, f"{numbers}: fewer than the {needed} that are needed")
        better = high < -margin
        reason = f"{numbers}: {'' if better else 'not '}surely better by more than {margin:g}"
        return Verdict(better, effect, low, high, reason)

    def _interval(self, differences: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
        random = np.random.default_rng(self._config.seed)
        effects = np.empty(self._config.resamples)
        for index in range(self._config.resamples):
            drawn = random.integers(0, len(targets), len(targets))
            effects[index] = differences[drawn].sum() / targets[drawn].sum()
        tail = (1 - self._config.confidence) / 2
        low, high = np.quantile(effects, [tail, 1 - tail])
        return float(low), float(high)


def _paired(
    champion: Mapping[str, tuple[float, int]], candidate: Mapping[str, tuple[float, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return each conversation's loss difference and its targets, float64 [conversations], in order of id."""
    names = sorted(champion)
    if not names or names != sorted(candidate):
        raise InputError("The gate needs two evaluations of the same held-out conversations.")
    before = np.array([champion[name] for name in names], dtype=np.float64)
    after = np.array([candidate[name] for name in names], dtype=np.float64)
    if not np.array_equal(before[:, 1], after[:, 1]) or (before[:, 1] < 1).any():
        raise InputError("The gate needs two evaluations of the same targets, at least one in each conversation.")
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        raise InputError("The gate needs finite losses.")
    return after[:, 0] - before[:, 0], before[:, 1]
