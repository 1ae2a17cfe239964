"""The MNTP objective: predict a masked token from the state before it (LLM2Vec, arXiv 2404.05961, section 2.2).

    loss = - sum over targets i of log softmax(W h[i-1])[x_i]  /  count of targets of the whole batch

Owns the loss and its batch. Must not know how gradients are averaged: the count is handed in, because a mean per
worker is biased when workers hold different counts of targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mongars.neurons.base import Base
from mongars.neurons.plain_text import padded
from mongars.training.config import MNTPConfig
from mongars.training.loop import Outputs, PassLoss
from mongars.training.masking import MaskedRow, Masker
from mongars.training.plan import worker_share
from mongars.training.text import TokenTable


@dataclass(frozen=True)
class MaskedBatch:
    """Masked rows, padded at the right.

    `input_ids`, `attention_mask`: [rows, tokens]; `rows`, `positions`, `labels`, `hidden`: [targets], the row and
    the place of each target, its true token, and whether the mask token is shown there.
    """

    input_ids: Tensor
    attention_mask: Tensor
    rows: Tensor
    positions: Tensor
    labels: Tensor
    hidden: Tensor

    @property
    def targets(self) -> int:
        """Masked tokens in it."""
        return self.labels.numel()

    def to(self, device: torch.device) -> "MaskedBatch":
        """Return the batch on a device."""
        return MaskedBatch(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def collate(masked: Sequence[MaskedRow]) -> MaskedBatch:
    """Pad masked rows into a batch. Every row must have a token."""
    input_ids, attention_mask = padded([row.ids for row in masked])
    counts = torch.tensor([row.positions.size for row in masked])
    return MaskedBatch(
        input_ids,
        attention_mask,
        rows=torch.repeat_interleave(torch.arange(len(masked)), counts),
        positions=torch.cat([torch.from_numpy(row.positions) for row in masked]),
        labels=torch.cat([torch.from_numpy(row.labels) for row in masked]),
        hidden=torch.cat([torch.from_numpy(row.hidden) for row in masked]),
    )


class MNTPModel(nn.Module):
    """A bidirectional encoder with the base's language-model head, which sees the targets' states only.

    The head on the targets alone gives the same loss and gradient as on every token, in half the time on a
    small model (measured).
    """

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, batch: MaskedBatch) -> tuple[Tensor, Tensor]:
        """Return each target's loss in nats, float [targets], and whether it was predicted, bool [targets]."""
        outputs: Any = self.encoder(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
        )
        states = outputs.last_hidden_state[batch.rows, batch.positions - 1]
        logits = self.head(states).float()
        losses = nn.functional.cross_entropy(logits, batch.labels, reduction="none")
        return losses, logits.argmax(dim=-1) == batch.labels

    def smallest_batch(self) -> MaskedBatch:
        """Return a batch that goes through the model, on the CPU; what it holds means nothing."""
        one = torch.ones(1, dtype=torch.long)
        row, hidden = one - 1, one < 1
        return MaskedBatch(*padded([[0, 0]]), rows=row, positions=one, labels=row, hidden=hidden)


class MNTPObjective:
    """A `loop.Objective`: masked rows of a table, for one worker."""

    def __init__(self, config: MNTPConfig, base: Base, rows: TokenTable, rank: int = 0) -> None:
        self._config, self._base, self._rows, self._rank = config, base, rows, rank
        self._masker = Masker.of(config, base.tokenizer)
        self._lengths = rows.lengths

    def model(self, encoder: nn.Module) -> MNTPModel:
        """Return the encoder with the base's head, which is not trained."""
        head: nn.Module = self._base.model.get_output_embeddings()  # type: ignore[operator] # of PreTrainedModel
        return MNTPModel(encoder, head.requires_grad_(False))

    def batches(self, step: int) -> list[MaskedBatch]:
        """Return the worker's batches of a step."""
        rows, mask = self._rows, self._masker.mask
        return [
            collate([mask(rows.ids[place.row], rows.row(place.row), place.epoch) for place in places])
            for places in worker_share(self._config, step, self._lengths, self._rank)
        ]

    def loss(self, outputs: Outputs, batch: MaskedBatch) -> PassLoss:
        """Return the loss of a batch; what counts as predicted is what was truly hidden."""
        losses, right = outputs
        found, hidden = losses.sum(), batch.hidden
        return PassLoss(found, float(found.detach()), float((right & hidden).sum()), float(hidden.sum()))
