"""The gate: a candidate adapter is served only if it is significantly better than the served one.

After stage 1 this means: the held-out MNTP loss is significantly lower, turn retrieval is not significantly worse,
and the embeddings have not collapsed (docs/decisions/012). Stage 2 no longer optimises that loss. After it, turn
retrieval is significantly better, the embeddings have not collapsed, and similarity is not lower
(docs/decisions/017). Significance is by a paired bootstrap over conversations.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mongars.errors import InputError, SettingsError
from mongars.evaluation.bootstrap import CONFIDENCE, RESAMPLES, ratio_estimate
from mongars.evaluation.metrics import NOT_MEASURED, Evaluation, ItemMeans, Spread

KEPT_SPREAD = 0.5
"""Share of the champion's effective rank and of its uniformity that a candidate must keep (docs/decisions/012).

A coarse threshold: retrieval is the finer test, and this one detects a collapse if retrieval was not measured."""
STS_TOLERANCE = 0.02
"""For Spearman's correlation, which has no interval here (docs/results/encoder-quality.md)."""
TOO_FEW_ANSWERS = f"retrieval {NOT_MEASURED}: too few distinct answers are held out"
Criterion = Literal["loss", "retrieval"]
Finding = tuple[bool, str]
"""Whether a check passed, and its part of the verdict's reason."""


@dataclass(frozen=True, slots=True)
class GateConfig:
    """Criterion and thresholds of the gate.

    The metric of `criterion` must be significantly better by more than `margin`: the loss, in nats per target, or
    retrieval, in nDCG@10. `tolerance` is the loss of nDCG@10 that the criterion "loss" accepts, `sts_tolerance`
    the loss of Spearman's correlation that the criterion "retrieval" accepts. With fewer than `min_conversations`
    held-out conversations a percentile interval is useless: nothing is promoted. With fewer conversations that
    have a query, retrieval is not judged.
    """

    criterion: Criterion = "loss"
    margin: float = 0.0
    tolerance: float = 0.0
    sts_tolerance: float = STS_TOLERANCE
    confidence: float = CONFIDENCE
    resamples: int = RESAMPLES
    min_conversations: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        amounts = (self.margin, self.tolerance, self.sts_tolerance)
        least = min(*amounts, self.resamples - 1, self.min_conversations - 1)
        if least < 0 or not 0 < self.confidence < 1:
            raise SettingsError(
                f"Impossible gate: {self}.",
                remedy="margin and tolerance >= 0, 0 < confidence < 1, resamples and min_conversations >= 1.",
            )


@dataclass(frozen=True, slots=True)
class Change:
    """`effect` is the candidate's mean minus the champion's; `low` and `high` are its confidence interval."""

    before: float
    after: float
    effect: float
    low: float
    high: float
    conversations: int

    def __str__(self) -> str:
        return f"{self.before:.3f} -> {self.after:.3f}, {self.effect:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision, the changes that it is based on, and a reason that names each metric.

    A negative effect on `loss`, in nats per target, is better; of `ndcg_at_10` a positive one. The latter is None
    if retrieval was not measured.
    """

    promote: bool
    loss: Change
    ndcg_at_10: Change | None
    reason: str

    def metrics(self) -> dict[str, float]:
        """Return the changes as numbers for the candidate's manifest entry."""
        changes = {"gate": self.loss} | ({"gate_ndcg_at_10": self.ndcg_at_10} if self.ndcg_at_10 else {})
        return {
            f"{name}_{part}": getattr(change, part)
            for name, change in changes.items()
            for part in ("effect", "low", "high")
        }


class Gate:
    """Compares two evaluations of the same held-out conversations, targets and queries."""

    def __init__(self, config: GateConfig | None = None) -> None:
        self._config = config or GateConfig()

    def judge(self, champion: Evaluation, candidate: Evaluation) -> Verdict:
        """Return the verdict; the same evaluations always give the same one.

        Raises InputError if the two were not measured on the same conversations, targets and queries.
        """
        before, after = champion.search, candidate.search
        if (before is None) != (after is None) or (champion.spread is None) != (candidate.spread is None):
            raise InputError("The gate needs two evaluations of the same turns.")
        loss = self._change(champion.loss, candidate.loss)
        ndcg = self._change(before.ndcg_at_10, after.ndcg_at_10) if before and after else None
        recall = self._change(before.recall_at_10, after.recall_at_10) if before and after else None
        spread = _spread(champion.spread, candidate.spread)
        if self._config.criterion == "loss":
            findings = [self._lower_loss(loss), self._no_worse_retrieval(ndcg, recall), spread]
        else:
            similarity = self._similarity(champion.sts_spearman, candidate.sts_spearman)
            not_judged = (True, f"loss {loss} over {loss.conversations} conversations: not judged")
            findings = [self._better_retrieval(ndcg, recall), spread, similarity, not_judged]
        return Verdict(
            promote=all(passed for passed, _ in findings),
            loss=loss,
            ndcg_at_10=ndcg,
            reason="; ".join(text for _, text in findings),
        )

    def _change(self, champion: ItemMeans, candidate: ItemMeans) -> Change:
        before, after, items = _paired(champion, candidate)
        config = self._config
        estimate = ratio_estimate(
            after - before, items, confidence=config.confidence, resamples=config.resamples, seed=config.seed
        )
        return Change(champion.value, candidate.value, estimate.value, estimate.low, estimate.high, len(items))

    def _lower_loss(self, change: Change) -> Finding:
        text, needed = f"loss {change} over {change.conversations} conversations", self._config.min_conversations
        if change.conversations < needed:
            return False, f"{text}: at least {needed} are needed"
        better = change.high < -self._config.margin
        return better, f"{text}: {_significantly('better', better, self._config.margin)}"

    def _no_worse_retrieval(self, ndcg: Change | None, recall: Change | None) -> Finding:
        """Check that retrieval is not significantly worse; passes if it was not measured."""
        if ndcg is None:
            return True, TOO_FEW_ANSWERS
        text, needed = _retrieval_text(ndcg, recall), self._config.min_conversations
        if ndcg.conversations < needed:
            return True, f"{text}: not judged, at least {needed} are needed"
        if ndcg.low > 0:
            return True, f"{text}: significantly better"
        worse = ndcg.high < -self._config.tolerance
        return not worse, f"{text}: {_significantly('worse', worse, self._config.tolerance)}"

    def _better_retrieval(self, ndcg: Change | None, recall: Change | None) -> Finding:
        """Check that retrieval is significantly better; fails if it was not measured."""
        if ndcg is None:
            return False, TOO_FEW_ANSWERS
        text, needed = _retrieval_text(ndcg, recall), self._config.min_conversations
        if ndcg.conversations < needed:
            return False, f"{text}: at least {needed} are needed"
        better = ndcg.low > self._config.margin
        return better, f"{text}: {_significantly('better', better, self._config.margin)}"

    def _similarity(self, champion: float | None, candidate: float | None) -> Finding:
        """Check that similarity is not lower; passes without scored pairs, fails if all cosines became equal."""
        if champion is None:
            return True, f"STS {NOT_MEASURED}"
        if candidate is None:
            return False, f"STS {champion:.3f} -> {NOT_MEASURED}: all cosines are equal"
        lower = candidate < champion - self._config.sts_tolerance
        text = f"STS {champion:.3f} -> {candidate:.3f}"
        return not lower, f"{text}: {'' if lower else 'not '}lower by more than {self._config.sts_tolerance:g}"


def _significantly(direction: Literal["better", "worse"], found: bool, threshold: float) -> str:
    return f"{'' if found else 'not '}significantly {direction} by more than {threshold:g}"


def _retrieval_text(ndcg: Change, recall: Change | None) -> str:
    return f"nDCG@10 {ndcg}, recall@10 {recall} over {ndcg.conversations} conversations with a query"


def _spread(champion: Spread | None, candidate: Spread | None) -> Finding:
    if champion is None or candidate is None:
        return True, f"spread {NOT_MEASURED}"
    kept = (
        candidate.effective_rank >= KEPT_SPREAD * champion.effective_rank
        and candidate.uniformity <= KEPT_SPREAD * champion.uniformity
    )
    text = (
        f"effective rank {champion.effective_rank:.1f} -> {candidate.effective_rank:.1f}, "
        f"uniformity {champion.uniformity:.2f} -> {candidate.uniformity:.2f}"
    )
    return kept, f"{text}: {'not ' if kept else ''}collapsed"


def _paired(champion: ItemMeans, candidate: ItemMeans) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the sums before and after and the number of items, by conversation: float64 [conversations] each."""
    names = sorted(champion.by_conversation)
    if not names or names != sorted(candidate.by_conversation):
        raise InputError("The gate needs two evaluations of the same held-out conversations.")
    before, after = (
        np.array([means.by_conversation[name] for name in names], dtype=np.float64)
        for means in (champion, candidate)
    )
    if not np.array_equal(before[:, 1], after[:, 1]):
        raise InputError("The gate needs two evaluations of the same targets and queries.")
    return before[:, 0], after[:, 0], before[:, 1]
