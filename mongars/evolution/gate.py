"""The gate: a candidate is served only when it is measurably better than what is served.

Owns the statistical test. Must not know models, datasets or the registry.

Better is, after stage 1: the held-out MNTP loss is surely lower, turn retrieval is not surely worse, and the
vectors have not collapsed (docs/decisions/012). After stage 2, which leaves that loss behind: turn retrieval is
surely better, the vectors have not collapsed, and similarity is not lower (docs/decisions/017). Sure is what a
paired bootstrap over conversations says (`training/bootstrap.py`).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mongars.errors import InputError, SettingsError
from mongars.evaluation.bootstrap import CONFIDENCE, RESAMPLES, ratio_estimate
from mongars.evaluation.metrics import NOT_MEASURED, Evaluation, ItemMeans, Spread

KEPT_SPREAD = 0.5
"""The share of the champion's effective rank and of its uniformity that a candidate must keep: coarse, for three
trained adapters kept 0.84 or more of either (docs/decisions/012). Retrieval is the finer judge; this one sees a
collapse where that was not measured."""


TOO_FEW_ANSWERS = f"retrieval {NOT_MEASURED}: too few different answers are held out"
Criterion = Literal["loss", "retrieval"]
STS_TOLERANCE = 0.02
"""Spearman. No interval is at hand for the change; that of one encoder on STS-b dev, 1,500 pairs, is 0.08 wide
(docs/results/2026-11-25-contrastive.md). Stage 2 raised the figure by 0.08 and 0.13 there."""


@dataclass(frozen=True, slots=True)
class GateConfig:
    """How sure the gate must be.

    `criterion` is what must be surely better by more than `margin`: the loss, in nats per target, or retrieval,
    in nDCG@10. `tolerance` is what nDCG@10 may lose where the loss decides, `sts_tolerance` what Spearman's
    correlation may lose where retrieval does.
    `min_conversations` is where the percentile interval begins to be of use; fewer held-out conversations
    promote nothing, and fewer with a query say nothing of retrieval.
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
    """`effect` is the candidate's mean less the champion's; `low` and `high` bound it."""

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
    """The decision, the changes that it rests on, and a reason that names each figure.

    Of `loss`, in nats per target, below zero is better; of `ndcg_at_10` above. The latter is None where
    retrieval was not measured.
    """

    promote: bool
    loss: Change
    ndcg_at_10: Change | None
    reason: str

    def metrics(self) -> dict[str, float]:
        """Return the changes as numbers to be kept with the candidate."""
        changes = {"gate": self.loss} | ({"gate_ndcg_at_10": self.ndcg_at_10} if self.ndcg_at_10 else {})
        return {
            f"{name}_{part}": getattr(change, part)
            for name, change in changes.items()
            for part in ("effect", "low", "high")
        }


class Gate:
    """Judges two evaluations of the same held-out conversations, targets and queries."""

    def __init__(self, config: GateConfig | None = None) -> None:
        self._config = config or GateConfig()

    def judge(self, champion: Evaluation, candidate: Evaluation) -> Verdict:
        """Return whether the candidate may be served. Same input, same verdict.

        Raises InputError when the two were not measured on the same conversations, targets and queries.
        """
        before, after = champion.search, candidate.search
        if (before is None) != (after is None) or (champion.spread is None) != (candidate.spread is None):
            raise InputError("The gate needs two evaluations of the same turns.")
        loss = self._change(champion.loss, candidate.loss)
        ndcg = self._change(before.ndcg_at_10, after.ndcg_at_10) if before and after else None
        recall = self._change(before.recall_at_10, after.recall_at_10) if before and after else None
        spread = _spread(champion.spread, candidate.spread)
        if self._config.criterion == "loss":
            findings = [self._loss(loss), self._retrieval(ndcg, recall), spread]
        else:
            told = f"loss {loss} over {loss.conversations} conversations: not judged"
            similarity = self._similarity(champion.sts_spearman, candidate.sts_spearman)
            findings = [self._found_more(ndcg, recall), spread, similarity, (True, told)]
        return Verdict(
            promote=all(passed for passed, _ in findings),
            loss=loss,
            ndcg_at_10=ndcg,
            reason="; ".join(told for _, told in findings),
        )

    def _change(self, champion: ItemMeans, candidate: ItemMeans) -> Change:
        before, after, items = _paired(champion, candidate)
        config = self._config
        found = ratio_estimate(
            after - before, items, confidence=config.confidence, resamples=config.resamples, seed=config.seed
        )
        return Change(champion.value, candidate.value, found.value, found.low, found.high, len(items))

    def _loss(self, change: Change) -> tuple[bool, str]:
        told, needed = f"loss {change} over {change.conversations} conversations", self._config.min_conversations
        if change.conversations < needed:
            return False, f"{told}: fewer than the {needed} that are needed"
        better = change.high < -self._config.margin
        return better, f"{told}: {'' if better else 'not '}surely better by more than {self._config.margin:g}"

    def _retrieval(self, ndcg: Change | None, recall: Change | None) -> tuple[bool, str]:
        """Return whether retrieval is not surely worse; what was not measured refuses nothing."""
        if ndcg is None:
            return True, TOO_FEW_ANSWERS
        told = _told(ndcg, recall)
        if ndcg.conversations < self._config.min_conversations:
            return True, f"{told}: fewer than the {self._config.min_conversations} that a judgement needs"
        if ndcg.low > 0:
            return True, f"{told}: surely better"
        worse = ndcg.high < -self._config.tolerance
        return not worse, f"{told}: {'' if worse else 'not '}surely worse by more than {self._config.tolerance:g}"

    def _found_more(self, ndcg: Change | None, recall: Change | None) -> tuple[bool, str]:
        """Return whether retrieval is surely better; what was not measured is not better."""
        if ndcg is None:
            return False, TOO_FEW_ANSWERS
        told = _told(ndcg, recall)
        if ndcg.conversations < self._config.min_conversations:
            return False, f"{told}: fewer than the {self._config.min_conversations} that are needed"
        better = ndcg.low > self._config.margin
        return better, f"{told}: {'' if better else 'not '}surely better by more than {self._config.margin:g}"

    def _similarity(self, champion: float | None, candidate: float | None) -> tuple[bool, str]:
        """Return whether similarity is not lower; an encoder that tells no pair from another has none."""
        if champion is None:
            return True, f"STS {NOT_MEASURED}"
        if candidate is None:
            return False, f"STS {champion:.3f} -> {NOT_MEASURED}: all cosines are the same"
        lower = candidate < champion - self._config.sts_tolerance
        told = f"STS {champion:.3f} -> {candidate:.3f}"
        return not lower, f"{told}: {'' if lower else 'not '}lower by more than {self._config.sts_tolerance:g}"


def _told(ndcg: Change, recall: Change | None) -> str:
    return f"nDCG@10 {ndcg}, recall@10 {recall} over {ndcg.conversations} conversations with a query"


def _spread(champion: Spread | None, candidate: Spread | None) -> tuple[bool, str]:
    if champion is None or candidate is None:
        return True, f"spread {NOT_MEASURED}"
    kept = (
        candidate.effective_rank >= KEPT_SPREAD * champion.effective_rank
        and candidate.uniformity <= KEPT_SPREAD * champion.uniformity
    )
    told = (
        f"effective rank {champion.effective_rank:.1f} -> {candidate.effective_rank:.1f}, "
        f"uniformity {champion.uniformity:.2f} -> {candidate.uniformity:.2f}"
    )
    return kept, f"{told}: {'not ' if kept else ''}collapsed"


def _paired(champion: ItemMeans, candidate: ItemMeans) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each conversation's sum before, sum after and items: float64 [conversations]."""
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
