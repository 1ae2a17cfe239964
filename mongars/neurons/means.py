"""From windows of tokens to the mean of their states, by the encoder that is there.

Owns which implementation an encoder gets: `PaddedMeans` runs every encoder, `FlatMeans` Llama and its like on a
CPU, without padding. Must not know texts, batches or adapters.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from mongars.neurons.llama import LlamaDecoder, is_like_llama
from mongars.neurons.plain_text import padded
from mongars.neurons.pooling import masked_mean


class Means(Protocol):
    """An encoder for windows."""

    def __call__(self, windows: Sequence[Sequence[int]]) -> Tensor:
        """Return the mean state of each window's tokens: float32 [windows, hidden] on the CPU."""
        ...


def means_of(encoder: nn.Module) -> Means:
    """Return the passes of an encoder, a decoder without head, with an adapter or without."""
    on_cpu = next(encoder.parameters()).device.type == "cpu"
    # One call of attention for each window is nothing to a CPU, but many small kernels to a GPU.
    return FlatMeans(encoder) if on_cpu and is_like_llama(encoder) else PaddedMeans(encoder)


class PaddedMeans:
    """The encoder's own forward, over windows that are padded to the longest."""

    def __init__(self, encoder: nn.Module) -> None:
        self._encoder = encoder
        self._device = next(encoder.parameters()).device

    def __call__(self, windows: Sequence[Sequence[int]]) -> Tensor:
        """As `Means`."""
        input_ids, attention_mask = padded(windows)
        attention_mask = attention_mask.to(self._device)
        states = self._encoder(
            input_ids=input_ids.to(self._device), attention_mask=attention_mask, use_cache=False
        )
        return masked_mean(states.last_hidden_state, attention_mask).cpu()


class FlatMeans:
    """The decoder's arithmetic over the tokens of all windows in one list (`llama.py`)."""

    def __init__(self, encoder: nn.Module) -> None:
        config: Any = encoder.config
        self._decoder = LlamaDecoder(encoder)
        self._causal = getattr(config, "is_causal", True)

    def __call__(self, windows: Sequence[Sequence[int]]) -> Tensor:
        """As `Means`."""
        lengths = [len(window) for window in windows]
        ids = torch.tensor([token for window in windows for token in window])
        positions = torch.cat([torch.arange(length) for length in lengths])

        def attend(_: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            parts = zip(*(torch.split(each, lengths) for each in (queries, keys, values)), strict=True)
            return torch.cat([self._read(*part) for part in parts])

        states = self._decoder.states(ids, positions, attend).float()
        return torch.stack([part.mean(0) for part in torch.split(states, lengths)]).cpu()

    def _read(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return what the tokens of one window read of it, from [tokens, heads, size]: [tokens, heads x size]."""
        said = scaled_dot_product_attention(
            queries.transpose(0, 1)[None],
            keys.transpose(0, 1)[None],
            values.transpose(0, 1)[None],
            is_causal=self._causal,
            scale=self._decoder.scale,
            enable_gqa=self._decoder.heads != self._decoder.stored_heads,
        )
        return said[0].transpose(0, 1).reshape(len(queries), -1)
