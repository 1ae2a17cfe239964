"""Fusion of linear layers with the same input: one matrix product where their weights are adjacent in memory."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from mongars.lm.cpu.onednn import OneDnnLinear
from mongars.lm.lora import LoraLinear

FusedLinear = Callable[[Tensor], Sequence[Tensor]]
"""From states [tokens, in] to the outputs of several linear layers, [tokens, out] each."""


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
    """Move the weights of layers with the same input into one tensor.

    Each remains a parameter of its own layer, and is saved, copied and adapted as before; `fused_projection` then
    computes all of them in one matrix product. No weight may share its tensor with others.
    """
    _join([layer.weight for layer in layers])


def fused_projection(layers: Sequence[nn.Module]) -> FusedLinear:
    """Return the projection by layers with the same input, fused if their weights are adjacent.

    With a bias or an adapter of peft's in any of them, each layer is called separately. The first halves of
    LoraLinear layers are fused as well: their weights move into one tensor.
    """
    project = _project_base([layer.base_layer if isinstance(layer, LoraLinear) else layer for layer in layers])
    adapted = [(place, layer) for place, layer in enumerate(layers) if isinstance(layer, LoraLinear)]
    if not adapted:
        return project
    halves = [layer.lora_a for _, layer in adapted]
    if len({half.dtype for half in halves}) > 1:
        return separate_projection(layers)
    joint, ranks = _join(halves), list(map(len, halves))

    def project_adapted(states: Tensor) -> list[Tensor]:
        outputs = list(project(states))
        lows = linear(states.to(joint.dtype), joint).split_with_sizes(ranks, dim=-1)
        for (place, layer), low in zip(adapted, lows, strict=True):
            outputs[place] = layer.added(outputs[place], low)
        return outputs

    return project_adapted


def _project_base(layers: Sequence[nn.Module]) -> FusedLinear:
    kind = type(layers[0])
    plain = kind in (nn.Linear, OneDnnLinear) and all(
        type(layer) is kind and layer.bias is None for layer in layers
    )
    weights: list[Any] = [layer.weight for layer in layers] if plain else []
    joint = _adjacent([weight.data for weight in weights])
    if joint is None:
        return separate_projection(layers)
    whole = kind(joint.shape[1], joint.shape[0], bias=False, device="meta")
    whole.weight = nn.Parameter(joint, requires_grad=False)
    sizes = [len(weight) for weight in weights]
    return lambda states: tuple(whole(states).split_with_sizes(sizes, dim=-1))


def _join(parameters: Sequence[Tensor]) -> Tensor:
    """Return one tensor of the rows of all parameters, which become views of it."""
    joint = torch.cat([each.data for each in parameters])
    for each, part in zip(parameters, joint.split_with_sizes([len(each) for each in parameters]), strict=True):
        each.data = part
    return joint


def _adjacent(weights: Sequence[Tensor]) -> Tensor | None:
    """Return weights that are adjacent in memory as one tensor, without a copy; None if they are not."""
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
