"""From windows of tokens to the mean of their states.

`PaddedMeanPooler` runs every encoder, `VarlenMeanPooler` runs Llama and its like on a CPU, without padding.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from mongars.lm.architecture import is_like_llama
from mongars.lm.llama import LlamaDecoder
from mongars.lm.packing import attend_within
from mongars.lm.token_rows import PackedRows, PaddedRows
from mongars.neurons.pooling import mean_of_each


class MeanPooler(Protocol):
    """An encoder with mean pooling."""

    def __call__(self, windows: Sequence[Sequence[int]]) -> Tensor:
        """Return the mean state of each window's tokens: float32 [windows, hidden] on the CPU."""
        ...


def mean_pooler(encoder: nn.Module) -> MeanPooler:
    """Return the pooler of an encoder: a decoder without a head, with or without an adapter."""
    on_cpu = next(encoder.parameters()).device.type == "cpu"
    # One call of attention for each window costs little on a CPU, but many small kernels on a GPU.
    return VarlenMeanPooler(encoder) if on_cpu and is_like_llama(encoder) else PaddedMeanPooler(encoder)


class PaddedMeanPooler:
    """The encoder's own forward pass over windows padded to the longest."""

    def __init__(self, encoder: nn.Module) -> None:
        self._encoder = encoder
        self._device = next(encoder.parameters()).device

    def __call__(self, windows: Sequence[Sequence[int]]) -> Tensor:
        rows = PaddedRows.of(windows).to(self._device)
        return mean_of_each(rows.states(self._encoder), rows.lengths).cpu()


class VarlenMeanPooler:
    """`LlamaDecoder` over the tokens of all windows in one list."""

    def __init__(self, encoder: nn.Module) -> None:
        config: Any = encoder.config
        self._decoder = LlamaDecoder(encoder)
        self._causal = getattr(config, "is_causal", True)

    def __call__(self, windows: Sequence[Sequence[int]]) -> Tensor:
        rows = PackedRows.of(windows)

        def attend(_: int, *states: Tensor) -> Tensor:
            heads_first = (each.transpose(0, 1)[None] for each in states)
            attended = attend_within(rows.runs, *heads_first, causal=self._causal, scale=self._decoder.scale)
            return attended[0].flatten(1)

        states = self._decoder.states(rows.input_ids[0], rows.position_ids[0], attend)
        return mean_of_each(rows.in_input_order(states), rows.lengths)
