"""The decoder of Llama and its like over a flat list of tokens, without padding and with few operations.

For inference only (Llama, arXiv 2302.13971: RMSNorm, rotary positions, grouped queries, gated layers). The tokens
of all sequences of a pass form one list; only attention, which the caller passes in, distinguishes sequences.
transformers' forward pass runs many more operations and pads every sequence to the longest. The linear layers are
the model's own modules, so an adapter in them is applied.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, silu

from mongars.lm.architecture import without_adapter
from mongars.lm.cpu.fused_linear import fused_projection, projections_of_same_input, separate_projection
from mongars.lm.cpu.optimize import is_optimized

Attention = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""From a layer's index, queries, keys and values [tokens, heads, size] to its output [tokens, heads x size]."""


class LlamaDecoder:
    """The layers of a model that `is_like_llama`: from tokens to their last states."""

    def __init__(self, model: nn.Module) -> None:
        plain: Any = without_adapter(model)
        self._inner: Any = getattr(plain, "model", plain)
        self._layers = list(self._inner.layers)
        project = fused_projection if is_optimized(plain) else separate_projection
        self._projections = [
            [project(each) for each in projections_of_same_input(layer)] for layer in self._layers
        ]
        attention = self._layers[0].self_attn
        self.size, self.scale = attention.head_dim, attention.scaling
        self.heads, self.stored_heads = plain.config.num_attention_heads, plain.config.num_key_value_heads
        self.device, self.dtype = self._inner.embed_tokens.weight.device, self._inner.embed_tokens.weight.dtype

    def states(self, ids: Tensor, positions: Tensor, attend: Attention, keep: Tensor | None = None) -> Tensor:
        """Return the last states, [tokens, hidden], of all tokens or of those at the indices `keep`.

        `ids` and `positions` are int64 [tokens].
        """
        states: Tensor = self._inner.embed_tokens(ids.to(self.device))
        cosine, sine = self._inner.rotary_emb(states, position_ids=positions.to(self.device)[None])
        cos_sin = (cosine[0, :, None], _rotate_sign(sine[0, :, None]))
        for index, layer in enumerate(self._layers):
            attention, (project_qkv, project_gate_up) = layer.self_attn, self._projections[index]
            q, k, v = project_qkv(_normed(states, layer.input_layernorm))
            queries = self._apply_rope(q, getattr(attention, "q_norm", None), cos_sin)
            keys = self._apply_rope(k, getattr(attention, "k_norm", None), cos_sin)
            values = v.view(len(ids), -1, self.size)
            states = attention.o_proj(attend(index, queries, keys, values)).add_(states)
            gate, up = project_gate_up(_normed(states, layer.post_attention_layernorm))
            states = layer.mlp.down_proj(silu(gate, inplace=True) * up).add_(states)
        if keep is not None:
            states = states[keep.to(self.device)]
        return _normed(states, self._inner.norm)

    def _apply_rope(self, projected: Tensor, norm: nn.Module | None, cos_sin: tuple[Tensor, Tensor]) -> Tensor:
        """Return the heads of queries or keys, [tokens, heads, size], rotated by their positions."""
        heads = projected.view(len(projected), -1, self.size)
        if norm is not None:
            heads = _normed(heads, norm)
        return torch.addcmul(heads * cos_sin[0], heads.roll(self.size // 2, -1), cos_sin[1])


def _normed(states: Tensor, norm: Any) -> Tensor:
    return rms_norm(states, (states.shape[-1],), norm.weight, norm.variance_epsilon)


def _rotate_sign(sine: Tensor) -> Tensor:
    """Return the sine for swapped halves: its first half, which multiplies the second's values, is negative."""
    half = sine.shape[-1] // 2
    return torch.cat([-sine[..., :half], sine[..., half:]], -1)
