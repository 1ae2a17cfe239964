"""Forward passes without padding, over the rows of a KV cache, for Llama and its like (`lm/llama.py`)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from mongars.lm.architecture import without_adapter
from mongars.lm.cpu.attention import GROW_TOKENS, product_attention, product_attention_is_faster
from mongars.lm.llama import LlamaDecoder
from mongars.serving.generation.kv_cache import KVCache

GROUP_ROWS = 8
"""Rows that attend in one call, over the longest of them; one call for all would read the longest of all."""


class LlamaForward:
    """Implements `forward.Forward` for models that `is_like_llama`."""

    def __init__(self, model: nn.Module) -> None:
        causal: Any = without_adapter(model)
        self._decoder, self._head = LlamaDecoder(model), causal.lm_head
        self._uses_products = product_attention_is_faster(self._head)
        self._attend: Any = product_attention if self._uses_products else scaled_dot_product_attention
        self.cache = KVCache(grow_tokens=GROW_TOKENS) if self._uses_products else KVCache()

    def prefill(self, prompts: Sequence[Sequence[int]], *, first_row: int, start: int) -> Tensor:
        lengths = [len(prompt) for prompt in prompts]
        ids = torch.tensor([token for prompt in prompts for token in prompt])
        positions = torch.cat([torch.arange(start, start + length) for length in lengths])
        ends = torch.tensor(lengths).cumsum(0) - 1

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            parts = zip(*(torch.split(each, lengths) for each in (queries, keys, values)), strict=True)
            attended = [self._prefill_row(layer, first_row + row, start, *part) for row, part in enumerate(parts)]
            return torch.cat(attended)

        logits: Tensor = self._head(self._decoder.states(ids, positions, attend, ends))
        return logits

    def decode(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        at = torch.tensor(positions)
        groups = self._groups(positions)
        self.cache.set_write_positions(at.to(self._decoder.device), max(length for _, length, _ in groups))

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            stored = self.cache.update(keys[:, :, None], values[:, :, None], layer)
            # Query heads that share a key head become its queries, so that no key is copied for them.
            shared = queries.view(len(tokens), self._decoder.stored_heads, -1, self._decoder.size)
            attended = [
                self._attend(
                    shared[rows],
                    stored[0][rows, :, :length],
                    stored[1][rows, :, :length],
                    attn_mask=mask,
                    scale=self._decoder.scale,
                )
                for rows, length, mask in groups
            ]
            return torch.cat(attended).view(len(tokens), -1)

        logits: Tensor = self._head(self._decoder.states(torch.tensor(tokens), at, attend))
        return logits

    def pass_tokens(self, lengths: Sequence[int]) -> int:
        return sum(lengths)

    def _prefill_row(
        self, layer: int, row: int, start: int, queries: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        """Store the keys and values of a prompt, [tokens, heads, size]; return the attention of its queries."""
        length = start + len(queries)
        self.cache.set_write_span(row, 1, start, length)
        stored = self.cache.update(keys.transpose(0, 1)[None], values.transpose(0, 1)[None], layer)
        mask = None
        if start:
            mask = torch.ones(len(queries), length, dtype=torch.bool, device=self._decoder.device).tril(start)
        attended = scaled_dot_product_attention(
            queries.transpose(0, 1)[None],
            *stored,
            attn_mask=mask,
            is_causal=mask is None,
            scale=self._decoder.scale,
            enable_gqa=self._decoder.heads != self._decoder.stored_heads,
        )
        return attended[0].transpose(0, 1).reshape(len(queries), -1)

    def _groups(self, positions: Sequence[int]) -> list[tuple[slice, int, Tensor]]:
        """Return the rows of each call of attention, the tokens it reads, and its mask."""
        decoder, groups = self._decoder, []
        together = len(positions) if self._uses_products else GROUP_ROWS
        for first in range(0, len(positions), together):
            own = torch.tensor(positions[first : first + together], device=decoder.device)
            length = self.cache.capacity if self._uses_products else int(own.max()) + 1
            later = torch.arange(length, device=decoder.device) > own[:, None, None, None]
            # A float mask is added to the scores; a bool mask would be converted in every layer.
            mask = torch.zeros(later.shape, dtype=decoder.dtype, device=decoder.device)
            groups.append((slice(first, first + len(own)), length, mask.masked_fill_(later, -math.inf)))
        return groups
