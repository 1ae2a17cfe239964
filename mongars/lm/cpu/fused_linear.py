"""FusedLinear of linear layers that read the same states, made as one where their weights lie together.

Owns the laying together and the choice. Must not know models, nor which library multiplies.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from mongars.lm.cpu.onednn import OneDnnLinear
from mongars.lm.lora import LoraLinear

FusedLinear = Callable[[Tensor], Sequence[Tensor]]
"""From states [tokens, in] to what each of some linear layers makes of them, [tokens, out] each."""


def projections_of_same_input(layer: Any) -> tuple[list[Any], list[Any]]:
    """Return the projections of a decoder layer that is like Llama's, those of the same input together."""
    attention, mlp = layer.self_attn, layer.mlp
    return [attention.q_proj, attention.k_proj, attention.v_proj], [mlp.gate_proj, mlp.up_proj]


def fuse_projections(model: nn.Module) -> None:
    """Fuse the projections of a freshly loaded model that is like Llama, but for layers with a bias."""
    inner: Any = getattr(model, "model", model)
    for layer in inner.layers:
        for layers in projections_of_same_input(layer):
            if all(isinstance(each, nn.Linear) and each.bias is None for each in layers):
                fuse_weights(layers)


def separate_projection(layers: Sequence[nn.Module]) -> FusedLinear:
    """Return a function that calls each of some layers on the same input."""
    return lambda states: [layer(states) for layer in layers]


def fuse_weights(layers: Sequence[nn.Linear]) -> None:
    """Put the weights of layers that read the same states into one tensor, one after the other.

    Each stays a parameter of its own layer, and is saved, copied and adapted as before; `fused_projection` then
    computes all of them in one matrix product. The caller must not have moved a weight before.
    """
    _lay([layer.weight for layer in layers])


def fused_projection(layers: Sequence[nn.Module]) -> FusedLinear:
    """Return the products of layers that read the same states: one where their weights lie together, else each.

    A layer with a bias, or with an adapter of peft's in it, is called by itself, and so are those beside it. Where
    a layer is a LoraLinear, its adapter's first half is made together with those of the others, and lies with them
    from then on.
    """
    plain = _own_products([layer.base_layer if isinstance(layer, LoraLinear) else layer for layer in layers])
    adapted = [(place, layer) for place, layer in enumerate(layers) if isinstance(layer, LoraLinear)]
    if not adapted:
        return plain
    halves = [layer.lora_a for _, layer in adapted]
    if len({half.dtype for half in halves}) > 1:
        return separate_projection(layers)
    joint, ranks = _lay(halves), list(map(len, halves))

    def products(states: Tensor) -> list[Tensor]:
        made = list(plain(states))
        lows = linear(states.to(joint.dtype), joint).split_with_sizes(ranks, dim=-1)
        for (place, layer), low in zip(adapted, lows, strict=True):
            made[place] = layer.added(made[place], low)
        return made

    return products


def _own_products(layers: Sequence[nn.Module]) -> FusedLinear:
    kind = type(layers[0])
    plain = kind in (nn.Linear, OneDnnLinear) and all(
        type(layer) is kind and layer.bias is None for layer in layers
    )
    weights: list[Any] = [layer.weight for layer in layers] if plain else []
    joint = _joint([weight.data for weight in weights])
    if joint is None:
        return separate_projection(layers)
    whole = kind(joint.shape[1], joint.shape[0], bias=False, device="meta")
    whole.weight = nn.Parameter(joint, requires_grad=False)
    sizes = [len(weight) for weight in weights]
    return lambda states: tuple(whole(states).split_with_sizes(sizes, dim=-1))


def _lay(parameters: Sequence[Tensor]) -> Tensor:
    """Return one tensor of the rows of all parameters, which lie in it from then on."""
    joint = torch.cat([each.data for each in parameters])
    for each, part in zip(parameters, joint.split_with_sizes([len(each) for each in parameters]), strict=True):
        each.data = part
    return joint


def _joint(weights: Sequence[Tensor]) -> Tensor | None:
    """Return weights that lie one after the other as one tensor, without a copy; None where they do not."""
    if not weights or not all(weight.is_contiguous() for weight in weights):
        return None
    first, columns = weights[0], weights[0].shape[1]
    place = first.storage_offset()
    for weight in weights:
        same = weight.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not same or weight.storage_offset() != place or weight.shape[1] != columns:
            return None
        place += weight.numel()
    return first.as_strided((sum(map(len, weights)), columns), first.stride())
