"""What a measured encoder comes to, as plain values.

Owns the shape of an evaluation, the names of its figures and how two of them are shown. Must not know how
they are measured: the gate and the command line read them without torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass

NOT_MEASURED = "not measured"
LABELS = {
    "held_out_loss": "held-out loss",
    "held_out_accuracy": "held-out accuracy",
    "recall_at_10": "turn retrieval, recall@10",
    "ndcg_at_10": "turn retrieval, nDCG@10",
    "alignment": "alignment",
    "uniformity": "uniformity",
    "effective_rank": "effective rank",
    "sts_spearman": "STS, Spearman",
}


@dataclass(frozen=True, slots=True)
class ItemMeans:
    """A mean over items (targets, queries): (sum, count of items) by the id of a held-out conversation.

    There is a conversation, and each has an item.
    """

    by_conversation: Mapping[str, tuple[float, int]]

    @property
    def items(self) -> int:
        """Return how many items there are."""
        return sum(count for _, count in self.by_conversation.values())

    @property
    def value(self) -> float:
        """Return the mean over all items."""
        return sum(total for total, _ in self.by_conversation.values()) / self.items


@dataclass(frozen=True, slots=True)
class TurnSearch:
    """How well turns find the turns that answer them, over queries."""

    recall_at_10: ItemMeans
    ndcg_at_10: ItemMeans


@dataclass(frozen=True, slots=True)
class Spread:
    """How turns lie on the sphere: `embedding_quality` says what each figure means."""

    alignment: float
    uniformity: float
    effective_rank: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An encoder on held-out conversations; None is what was not measured, and never a zero.

    `loss` is in nats per target, `accuracy` on the truly masked targets. `search` is None where there are
    too few documents, `spread` without a pair of turns, `sts_spearman` without scored pairs or where an
    encoder gives all of them the same cosine.
    """

    loss: ItemMeans
    accuracy: float
    search: TurnSearch | None = None
    spread: Spread | None = None
    sts_spearman: float | None = None

    def figures(self) -> dict[str, float | None]:
        """Return every figure by its name in `LABELS`, in that order."""
        search, spread = self.search, self.spread
        return {
            "held_out_loss": self.loss.value,
            "held_out_accuracy": self.accuracy,
            "recall_at_10": search.recall_at_10.value if search else None,
            "ndcg_at_10": search.ndcg_at_10.value if search else None,
            "alignment": spread.alignment if spread else None,
            "uniformity": spread.uniformity if spread else None,
            "effective_rank": spread.effective_rank if spread else None,
            "sts_spearman": self.sts_spearman,
        }


def compared(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> list[tuple[str, str]]:
    """Return (label, "before -> after") of each figure of two evaluations, for a table."""
    return [(LABELS[name], _change(before[name], after[name])) for name in before]


def _change(before: float | None, after: float | None) -> str:
    if before is None and after is None:
        return NOT_MEASURED
    return f"{_shown(before)} -> {_shown(after)}"


def _shown(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.3f}"
