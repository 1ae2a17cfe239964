"""The MNTP objective: predict a masked token from the state before it (LLM2Vec, arXiv 2404.05961, section 2.2).

    loss = - sum over targets i of log softmax(W h[i-1])[x_i]  /  count of targets of the whole batch

Owns the loss and its batch. Must not know how gradients are averaged: the count is handed in, because a mean per
worker is biased when workers hold different counts of targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mongars.lm.base import Base
from mongars.lm.packing import allow_packing
from mongars.lm.token_rows import TokenRows, lay_out
from mongars.training.config import MNTPConfig, Precision
from mongars.training.data.masking import MaskedRow, Masker
from mongars.training.data.sampler import worker_share
from mongars.training.data.tokenize import TokenTable
from mongars.training.loop import Outputs, PassLoss
from mongars.training.objectives.precision import states_of


@dataclass(frozen=True)
class MaskedBatch:
    """Masked rows, padded or packed.

    `places`, `labels`, `hidden`: [targets], where each target is among the tokens of all rows, one row after the
    other, its true token, and whether the mask token is shown there.
    """

    rows: TokenRows
    places: Tensor
    labels: Tensor
    hidden: Tensor

    @property
    def targets(self) -> int:
        """Masked tokens in it."""
        return self.labels.numel()

    def to(self, device: torch.device) -> "MaskedBatch":
        """Return the batch on a device."""
        return MaskedBatch(**{name: each.to(device) for name, each in vars(self).items()})


def collate(masked: Sequence[MaskedRow], *, packing: bool = False) -> MaskedBatch:
    """Lay out masked rows as a batch. Every row must have a token."""
    lengths = np.array([row.ids.size for row in masked])
    starts = np.cumsum(lengths) - lengths
    places = [row.positions + start for row, start in zip(masked, starts, strict=True)]
    return MaskedBatch(
        lay_out([row.ids for row in masked], packing=packing),
        places=torch.from_numpy(np.concatenate(places)),
        labels=torch.cat([torch.from_numpy(row.labels) for row in masked]),
        hidden=torch.cat([torch.from_numpy(row.hidden) for row in masked]),
    )


class MNTPModel(nn.Module):
    """A bidirectional encoder with the base's language-model head, which sees the targets' states only.

    The head on the targets alone gives the same loss and gradient as on every token, in half the time on a
    small model (measured).
    """

    def __init__(
        self, encoder: nn.Module, head: nn.Module, *, packing: bool = False, precision: Precision = "fp32"
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self._packing, self._precision = packing, precision

    def forward(self, batch: MaskedBatch) -> tuple[Tensor, Tensor]:
        """Return each target's loss in nats, float [targets], and whether it was predicted, bool [targets]."""
        states = states_of(self.encoder, batch.rows, self._precision)
        states = states[batch.places - 1]  # a target is never the first of its row
        logits = self.head(states).float()
        losses = nn.functional.cross_entropy(logits, batch.labels, reduction="none")
        return losses, logits.argmax(dim=-1) == batch.labels

    def smallest_batch(self) -> MaskedBatch:
        """Return a batch that goes through the model, on the CPU; what it holds means nothing."""
        one = torch.ones(1, dtype=torch.long)
        return MaskedBatch(lay_out([[0, 0]], packing=self._packing), places=one, labels=one - 1, hidden=one < 1)


class MNTPObjective:
    """A `loop.Objective`: masked rows of a table, for one worker."""

    def __init__(self, config: MNTPConfig, base: Base, rows: TokenTable, rank: int = 0) -> None:
        self._config, self._base, self._rows, self._rank = config, base, rows, rank
        self._masker = Masker.of(config, base.tokenizer)
        self._lengths = rows.lengths

    def model(self, encoder: nn.Module) -> MNTPModel:
        """Return the encoder with the base's head, which is not trained; packing is proven on it first.

        Raises TrainingError where the recipe packs and the architecture does not allow it.
        """
        if self._config.packing:
            allow_packing(encoder, self._config.max_tokens)
        head: nn.Module = self._base.model.get_output_embeddings()  # type: ignore[operator] # of PreTrainedModel
        config = self._config
        return MNTPModel(encoder, head.requires_grad_(False), packing=config.packing, precision=config.precision)

    def batches(self, step: int) -> list[MaskedBatch]:
        """Return the worker's batches of a step."""
        rows, mask, config = self._rows, self._masker.mask, self._config
        return [
            collate(
                [mask(rows.ids[place.row], rows.row(place.row), place.epoch) for place in places],
                packing=config.packing,
            )
            for places in worker_share(config, step, self._lengths, self._rank)
        ]

    def loss(self, outputs: Outputs, batch: MaskedBatch) -> PassLoss:
        """Return the loss of a batch; what counts as predicted is what was truly hidden."""
        losses, right = outputs
        found, hidden = losses.sum(), batch.hidden
        return PassLoss(found, float(found.detach()), float((right & hidden).sum()), float(hidden.sum()))
