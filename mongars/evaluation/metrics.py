"""The result of an evaluation as plain values: metrics by name, and two evaluations side by side.

Imports no torch, because the gate and the command line read it.
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
    """A mean over items (targets or queries): the pair (sum, number of items) by conversation id.

    There is at least one conversation, and each has at least one item.
    """

    by_conversation: Mapping[str, tuple[float, int]]

    @property
    def items(self) -> int:
        """The number of items over all conversations."""
        return sum(count for _, count in self.by_conversation.values())

    @property
    def value(self) -> float:
        """The mean over all items: a conversation weighs as much as it has items."""
        return sum(total for total, _ in self.by_conversation.values()) / self.items


@dataclass(frozen=True, slots=True)
class TurnSearch:
    """Retrieval of the answer by the turn before it, over queries."""

    recall_at_10: ItemMeans
    ndcg_at_10: ItemMeans


@dataclass(frozen=True, slots=True)
class Spread:
    """Spread of turns on the unit sphere; `embedding_quality` defines each metric."""

    alignment: float
    uniformity: float
    effective_rank: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics of an encoder on held-out conversations; None means not measured.

    `loss` is in nats per target, `accuracy` on targets shown as the mask token. `search` is None with too few
    documents, `spread` without a pair of turns, and `sts_spearman` without scored pairs or if all their cosines
    are equal.
    """

    loss: ItemMeans
    accuracy: float
    search: TurnSearch | None = None
    spread: Spread | None = None
    sts_spearman: float | None = None

    def metrics(self) -> dict[str, float | None]:
        """Return every metric by its name in `LABELS`, in that order."""
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
    """Return the rows (label, "before -> after") of a table that compares two evaluations."""
    return [(LABELS[name], _change(before[name], after[name])) for name in before]


def _change(before: float | None, after: float | None) -> str:
    if before is None and after is None:
        return NOT_MEASURED
    return f"{_shown(before)} -> {_shown(after)}"


def _shown(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.3f}"
