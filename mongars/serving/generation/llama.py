"""Forward passes of Llama and its like, without padding and with few operations.

Owns the decoder's arithmetic for generation (Llama, arXiv 2302.13971: RMSNorm, rotary positions, grouped queries).
All tokens of a pass, whatever row they belong to, are one flat list through the linear layers; only attention
looks at rows. transformers' own forward makes some 1,000 operations of a small model's pass and pads every prompt
to the longest. The linear layers are the model's modules, so an adapter in them is applied. Must not know answers.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, scaled_dot_product_attention

from mongars.serving.generation.rows import RowCache

GROUP_ROWS = 8
"""Rows whose keys are read to the longest of them in one call; all at once would read to the longest of all."""

Attention = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def is_like_llama(model: nn.Module) -> bool:
    """Return whether this arithmetic is the model's: by its class, and with full attention in every layer."""
    from transformers import LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM

    causal: Any = _without_adapter(model)
    config = causal.config
    full = set(getattr(config, "layer_types", None) or ()) <= {"full_attention"}
    windowed = type(causal) is MistralForCausalLM and config.sliding_window is not None
    known = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
    return type(causal) in known and full and not windowed


class LlamaForward:
    """As `forward.Forward`, for models that `is_like_llama`."""

    def __init__(self, model: nn.Module) -> None:
        causal: Any = _without_adapter(model)
        inner, config = causal.model, causal.config
        self.cache = RowCache()
        self._inner, self._head = inner, causal.lm_head
        self._layers = list(inner.layers)
        self._device, self._dtype = inner.embed_tokens.weight.device, inner.embed_tokens.weight.dtype
        self._heads, self._stored_heads = config.num_attention_heads, config.num_key_value_heads
        self._size = self._layers[0].self_attn.head_dim
        self._scale = self._layers[0].self_attn.scaling

    def read(self, prompts: Sequence[Sequence[int]], *, first_row: int, start: int) -> Tensor:
        """As `Forward.read`."""
        lengths = [len(prompt) for prompt in prompts]
        ids = torch.tensor([token for prompt in prompts for token in prompt])
        positions = torch.cat([torch.arange(start, start + length) for length in lengths])
        ends = torch.tensor(lengths).cumsum(0) - 1

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            parts = zip(*(torch.split(each, lengths) for each in (queries, keys, values)), strict=True)
            said = [self._read_row(layer, first_row + row, start, *part) for row, part in enumerate(parts)]
            return torch.cat(said)

        return self._pass(ids, positions, attend, ends)

    def decode(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """As `Forward.decode`."""
        at = torch.tensor(positions)
        self.cache.place_next(at.to(self._device))
        groups = self._groups(positions)

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            stored = self.cache.update(keys[:, :, None], values[:, :, None], layer)
            # The queries that share a key's head are its row's queries: no key is copied for them.
            shared = queries.view(len(tokens), self._stored_heads, -1, self._size)
            said = [
                scaled_dot_product_attention(
                    shared[rows],
                    stored[0][rows, :, :length],
                    stored[1][rows, :, :length],
                    attn_mask=mask,
                    scale=self._scale,
                )
                for rows, length, mask in groups
            ]
            return torch.cat(said).view(len(tokens), -1)

        return self._pass(torch.tensor(tokens), at, attend)

    def pass_tokens(self, lengths: Sequence[int]) -> int:
        """As `Forward.pass_tokens`."""
        return sum(lengths)

    def _pass(self, ids: Tensor, positions: Tensor, attend: Attention, keep: Tensor | None = None) -> Tensor:
        """Return the logits after the tokens that `keep` names, or after all. `ids` is int64 [tokens]."""
        states: Tensor = self._inner.embed_tokens(ids.to(self._device))
        cosine, sine = self._inner.rotary_emb(states, position_ids=positions.to(self._device)[None])
        turn = (cosine[0, :, None], _signed(sine[0, :, None]))
        for index, layer in enumerate(self._layers):
            attention = layer.self_attn
            normed = _normed(states, layer.input_layernorm)
            queries = self._turned(attention.q_proj(normed), getattr(attention, "q_norm", None), turn)
            keys = self._turned(attention.k_proj(normed), getattr(attention, "k_norm", None), turn)
            values = attention.v_proj(normed).view(len(ids), -1, self._size)
            states = states + attention.o_proj(attend(index, queries, keys, values))
            states = states + layer.mlp(_normed(states, layer.post_attention_layernorm))
        if keep is not None:
            states = states[keep.to(self._device)]
        logits: Tensor = self._head(_normed(states, self._inner.norm))
        return logits

    def _turned(self, projected: Tensor, norm: nn.Module | None, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Return the heads of queries or keys, [tokens, heads, size], turned by their positions."""
        heads = projected.view(len(projected), -1, self._size)
        if norm is not None:
            heads = _normed(heads, norm)
        return torch.addcmul(heads * turn[0], heads.roll(self._size // 2, -1), turn[1])

    def _read_row(self, layer: int, row: int, start: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Store a prompt's keys and values, [tokens, heads, size]; return what its tokens attend to."""
        length = start + len(queries)
        self.cache.place_span(row, 1, start, length)
        stored = self.cache.update(keys.transpose(0, 1)[None], values.transpose(0, 1)[None], layer)
        mask = None
        if start:
            mask = torch.ones(len(queries), length, dtype=torch.bool, device=self._device).tril(start)
        said = scaled_dot_product_attention(
            queries.transpose(0, 1)[None],
            *stored,
            attn_mask=mask,
            is_causal=mask is None,
            scale=self._scale,
            enable_gqa=self._heads != self._stored_heads,
        )
        return said[0].transpose(0, 1).reshape(len(queries), -1)

    def _groups(self, positions: Sequence[int]) -> list[tuple[slice, int, Tensor]]:
        """Return rows that attend together, how far they read, and a mask of what each may see of it."""
        groups = []
        for first in range(0, len(positions), GROUP_ROWS):
            own = torch.tensor(positions[first : first + GROUP_ROWS], device=self._device)
            length = int(own.max()) + 1
            later = torch.arange(length, device=self._device) > own[:, None, None, None]
            # Added to the scores, which attention would make of a bool mask anew in every layer.
            mask = torch.zeros(later.shape, dtype=self._dtype, device=self._device).masked_fill_(later, -math.inf)
            groups.append((slice(first, first + len(own)), length, mask))
        return groups


def _without_adapter(model: nn.Module) -> nn.Module:
    """Return the language model that peft wraps, whose linear layers hold the adapter by then."""
    unwrap = getattr(model, "get_base_model", None)
    return unwrap() if unwrap else model


def _normed(states: Tensor, norm: Any) -> Tensor:
    return rms_norm(states, (states.shape[-1],), norm.weight, norm.variance_epsilon)


def _signed(sine: Tensor) -> Tensor:
    """Return the sine for halves that are exchanged: the first, which holds the second's values, is negative."""
    half = sine.shape[-1] // 2
    return torch.cat([-sine[..., :half], sine[..., half:]], -1)
