"""The MNTP objective: predict a masked token from the state before it (LLM2Vec, arXiv 2404.05961, section 2.2).

    loss = - sum over targets i of log softmax(W h[i-1])[x_i]  /  count of targets of the whole batch

The loop divides by the count of all workers, because a mean per worker would be biased when the counts differ.
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
from mongars.training.data.sampler import worker_batches
from mongars.training.data.tokenize import TokenTable
from mongars.training.loop import Outputs, PassLoss
from mongars.training.objectives.precision import states_of


@dataclass(frozen=True)
class MaskedBatch:
    """Masked rows, padded or packed.

    `indices`, `labels` and `hidden` are [targets]: the index of each target in the concatenated tokens of all
    rows, its true token, and whether the input has the mask token there.
    """

    rows: TokenRows
    indices: Tensor
    labels: Tensor
    hidden: Tensor

    @property
    def targets(self) -> int:
        """Its number of masked tokens."""
        return self.labels.numel()

    def to(self, device: torch.device) -> "MaskedBatch":
        """Return the batch on a device."""
        return MaskedBatch(**{name: each.to(device) for name, each in vars(self).items()})


def collate(masked: Sequence[MaskedRow], *, packing: bool = False) -> MaskedBatch:
    """Return masked rows as a batch. Every row must have a token."""
    lengths = np.array([row.ids.size for row in masked])
    starts = np.cumsum(lengths) - lengths
    indices = [row.positions + start for row, start in zip(masked, starts, strict=True)]
    return MaskedBatch(
        lay_out([row.ids for row in masked], packing=packing),
        indices=torch.from_numpy(np.concatenate(indices)),
        labels=torch.cat([torch.from_numpy(row.labels) for row in masked]),
        hidden=torch.cat([torch.from_numpy(row.hidden) for row in masked]),
    )


class MNTPModel(nn.Module):
    """A bidirectional encoder with the base's language-model head.

    The head runs only on the states of targets: the same loss and gradient as on every token, at less cost.
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
        states = states[batch.indices - 1]  # a target is never the first token of its row
        logits = self.head(states).float()
        losses = nn.functional.cross_entropy(logits, batch.labels, reduction="none")
        return losses, logits.argmax(dim=-1) == batch.labels

    def smallest_batch(self) -> MaskedBatch:
        """Return a minimal batch of arbitrary tokens, on the CPU."""
        one = torch.ones(1, dtype=torch.long)
        return MaskedBatch(lay_out([[0, 0]], packing=self._packing), indices=one, labels=one - 1, hidden=one < 1)


class MNTPObjective:
    """The objective of stage 1 for one worker: masked rows of a table."""

    def __init__(self, config: MNTPConfig, base: Base, rows: TokenTable, rank: int = 0) -> None:
        self._config, self._base, self._rows, self._rank = config, base, rows, rank
        self._masker = Masker.of(config, base.tokenizer)
        self._lengths = rows.lengths

    def model(self, encoder: nn.Module) -> MNTPModel:
        """Return the encoder with the base's head, which stays frozen.

        Raises TrainingError if the recipe packs rows and the architecture does not support that.
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
                [mask(rows.ids[ref.row], rows.row(ref.row), ref.epoch) for ref in refs],
                packing=config.packing,
            )
            for refs in worker_batches(config, step, self._lengths, self._rank)
        ]

    def loss(self, outputs: Outputs, batch: MaskedBatch) -> PassLoss:
        """Return the loss of a batch. Only targets that the mask token hides count for the accuracy."""
        losses, correct = outputs
        found, hidden = losses.sum(), batch.hidden
        return PassLoss(found, float(found.detach()), float((correct & hidden).sum()), float(hidden.sum()))
