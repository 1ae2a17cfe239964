"""The decoder of Llama and its like over a flat list of tokens, without padding and with few operations.

Owns the arithmetic, for inference (Llama, arXiv 2302.13971: RMSNorm, rotary positions, grouped queries, gated
layers). All tokens of a pass, whatever sequence they belong to, are one list; only attention, which the caller
brings, looks at sequences. transformers' own forward makes some 1,000 operations of a small model's pass and
pads every sequence to the longest. The linear layers are the model's modules, so an adapter in them is applied.
Must not know keys that are kept, answers or vectors.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, silu

from mongars.lm.cpu.fused_linear import fuse_weights, fused_projection

Attention = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""From a layer's index, queries, keys and values [tokens, heads, size] to what is read [tokens, heads x size]."""


def is_like_llama(model: nn.Module) -> bool:
    """Return whether this arithmetic is the model's: by its class, and with full attention in every layer.

    The model is a causal language model or its decoder alone, with an adapter or without.
    """
    from transformers import (
        LlamaForCausalLM,
        LlamaModel,
        MistralForCausalLM,
        MistralModel,
        Qwen2ForCausalLM,
        Qwen2Model,
        Qwen3ForCausalLM,
        Qwen3Model,
    )

    mistrals = {MistralForCausalLM, MistralModel}
    known = {LlamaForCausalLM, LlamaModel, Qwen2ForCausalLM, Qwen2Model, Qwen3ForCausalLM, Qwen3Model} | mistrals
    plain: Any = without_adapter(model)
    config = plain.config
    full = set(getattr(config, "layer_types", None) or ()) <= {"full_attention"}
    windowed = type(plain) in mistrals and config.sliding_window is not None
    return type(plain) in known and config.hidden_act == "silu" and full and not windowed


def without_adapter(model: nn.Module) -> nn.Module:
    """Return the model that peft wraps, whose linear layers hold the adapter by then."""
    unwrap = getattr(model, "get_base_model", None)
    return unwrap() if unwrap else model


def fuse_projections(model: nn.Module) -> None:
    """Have a model that `is_like_llama`, freshly loaded, make products of the same states as one (`products.py`).

    A pass of 16 tokens took 0.9 of its time so, on a processor where MKL also took oneDNN's place
    (docs/results/2026-11-26-serving.md). Layers with a bias stay as they are.
    """
    inner: Any = getattr(model, "model", model)
    for layer in inner.layers:
        for layers in _of_same_states(layer):
            if all(isinstance(each, nn.Linear) and each.bias is None for each in layers):
                fuse_weights(layers)


def _of_same_states(layer: Any) -> tuple[list[Any], list[Any]]:
    attention, mlp = layer.self_attn, layer.mlp
    return [attention.q_proj, attention.k_proj, attention.v_proj], [mlp.gate_proj, mlp.up_proj]


class LlamaDecoder:
    """The layers of a model that `is_like_llama`: from tokens to their last states."""

    def __init__(self, model: nn.Module) -> None:
        plain: Any = without_adapter(model)
        self._inner: Any = getattr(plain, "model", plain)
        self._layers = list(self._inner.layers)
        self._products = [[fused_projection(each) for each in _of_same_states(layer)] for layer in self._layers]
        attention = self._layers[0].self_attn
        self.size, self.scale = attention.head_dim, attention.scaling
        self.heads, self.stored_heads = plain.config.num_attention_heads, plain.config.num_key_value_heads
        self.device, self.dtype = self._inner.embed_tokens.weight.device, self._inner.embed_tokens.weight.dtype

    def states(self, ids: Tensor, positions: Tensor, attend: Attention, keep: Tensor | None = None) -> Tensor:
        """Return the last states, [tokens, hidden], of the tokens that `keep` names, or of all.

        `ids` and `positions` are int64 [tokens], `keep` int64 places among them.
        """
        states: Tensor = self._inner.embed_tokens(ids.to(self.device))
        cosine, sine = self._inner.rotary_emb(states, position_ids=positions.to(self.device)[None])
        cos_sin = (cosine[0, :, None], _rotate_sign(sine[0, :, None]))
        for index, layer in enumerate(self._layers):
            attention, (attended, gated) = layer.self_attn, self._products[index]
            q, k, v = attended(_normed(states, layer.input_layernorm))
            queries = self._apply_rope(q, getattr(attention, "q_norm", None), cos_sin)
            keys = self._apply_rope(k, getattr(attention, "k_norm", None), cos_sin)
            values = v.view(len(ids), -1, self.size)
            states = attention.o_proj(attend(index, queries, keys, values)).add_(states)
            gate, up = gated(_normed(states, layer.post_attention_layernorm))
            states = layer.mlp.down_proj(silu(gate, inplace=True) * up).add_(states)
        if keep is not None:
            states = states[keep.to(self.device)]
        return _normed(states, self._inner.norm)

    def _apply_rope(self, projected: Tensor, norm: nn.Module | None, cos_sin: tuple[Tensor, Tensor]) -> Tensor:
        """Return the heads of queries or keys, [tokens, heads, size], turned by their positions."""
        heads = projected.view(len(projected), -1, self.size)
        if norm is not None:
            heads = _normed(heads, norm)
        return torch.addcmul(heads * cos_sin[0], heads.roll(self.size // 2, -1), cos_sin[1])


def _normed(states: Tensor, norm: Any) -> Tensor:
    return rms_norm(states, (states.shape[-1],), norm.weight, norm.variance_epsilon)


def _rotate_sign(sine: Tensor) -> Tensor:
    """Return the sine for halves that are exchanged: the first, which holds the second's values, is negative."""
    half = sine.shape[-1] // 2
    return torch.cat([-sine[..., :half], sine[..., half:]], -1)
