"""Rows of token ids for one pass of an encoder: padded to the longest, or packed without padding.

Both layouts give the same states of the same tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from mongars.lm.tokenize import padded

Ids = Sequence[int] | np.ndarray


class TokenRows(Protocol):
    """Rows of tokens in some layout."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Return the tokens of each row."""
        ...

    @property
    def places(self) -> int:
        """Return how many positions a pass computes: tokens and padding."""
        ...

    def states(self, encoder: nn.Module) -> Tensor:
        """Return the last states of all tokens, row by row: [tokens, hidden]."""
        ...

    def to(self, device: torch.device) -> Self:
        """Return the rows on a device."""
        ...


def lay_out(rows: Sequence[Ids], *, packing: bool) -> TokenRows:
    """Return rows of at least one token each, packed (see `packing.allow_packing`) or padded."""
    return PackedRows.of(rows) if packing else PaddedRows.of(rows)


@dataclass(frozen=True)
class PaddedRows:
    """Rows padded at the right. `input_ids`, `attention_mask`: int64 [rows, longest]."""

    input_ids: Tensor
    attention_mask: Tensor
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, rows: Sequence[Ids]) -> "PaddedRows":
        """Pad rows to the longest."""
        return cls(*padded(rows), tuple(map(len, rows)))

    @property
    def places(self) -> int:
        return self.input_ids.numel()

    def states(self, encoder: nn.Module) -> Tensor:
        outputs: Any = encoder(input_ids=self.input_ids, attention_mask=self.attention_mask, use_cache=False)
        states: Tensor = outputs.last_hidden_state[self.attention_mask.bool()]
        return states

    def to(self, device: torch.device) -> "PaddedRows":
        return PaddedRows(self.input_ids.to(device), self.attention_mask.to(device), self.lengths)


@dataclass(frozen=True)
class PackedRows:
    """Rows joined to one row of tokens, shortest first, for an encoder prepared by `packing.allow_packing`.

    `input_ids`, `position_ids`: int64 [1, tokens], positions start at 0 in every row; `runs`: (count, length) of
    consecutive rows of equal length; `order`: int64 [tokens], the index of each token of the rows in their input
    order, None when they were sorted by length.
    """

    input_ids: Tensor
    position_ids: Tensor
    lengths: tuple[int, ...]
    runs: tuple[tuple[int, int], ...]
    order: Tensor | None

    @classmethod
    def of(cls, rows: Sequence[Ids]) -> "PackedRows":
        """Pack rows. Those of equal length are adjacent, because attention takes them in one call."""
        lengths = np.array([len(row) for row in rows])
        ranked = np.argsort(lengths, kind="stable")
        sorted_lengths = lengths[ranked]
        starts = np.empty_like(lengths)
        starts[ranked] = np.cumsum(sorted_lengths) - sorted_lengths
        in_order = bool((np.diff(lengths) >= 0).all())
        return cls(
            torch.from_numpy(np.concatenate([rows[index] for index in ranked]).astype(np.int64))[None],
            torch.from_numpy(np.concatenate([np.arange(length) for length in sorted_lengths]))[None],
            tuple(lengths.tolist()),
            tuple((len(list(same)), length) for length, same in groupby(sorted_lengths.tolist())),
            None if in_order else torch.from_numpy(_spans(starts, lengths)),
        )

    @property
    def places(self) -> int:
        return self.input_ids.numel()

    def states(self, encoder: nn.Module) -> Tensor:
        outputs: Any = encoder(
            input_ids=self.input_ids, position_ids=self.position_ids, packed_runs=self.runs, use_cache=False
        )
        return self.in_input_order(outputs.last_hidden_state[0])

    def in_input_order(self, states: Tensor) -> Tensor:
        """Return states [tokens, hidden] in the input order of the rows."""
        return states if self.order is None else states[self.order]

    def to(self, device: torch.device) -> "PackedRows":
        order = None if self.order is None else self.order.to(device)
        moved = self.input_ids.to(device), self.position_ids.to(device)
        return PackedRows(*moved, self.lengths, self.runs, order)


def _spans(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the indices of consecutive spans."""
    return np.concatenate(
        [np.arange(start, start + length) for start, length in zip(starts, lengths, strict=True)]
    )
