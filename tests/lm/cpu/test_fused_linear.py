"""Fused projections equal those of each layer, with and without adapters."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mongars.lm.base import load_base
from mongars.lm.cpu.fused_linear import fuse_weights, fused_projection
from mongars.lm.cpu.onednn import MIN_ROWS, use_onednn
from mongars.lm.lora import LoraLinear

WIDTH = 48


def three(bias: bool = False) -> list[nn.Linear]:
    """Return layers of different widths with the same input, by oneDNN."""
    torch.manual_seed(0)
    layers = nn.ModuleList(nn.Linear(WIDTH, width, bias=bias) for width in (20, 8, 12))
    use_onednn(layers)
    return list(layers)


@pytest.mark.parametrize("rows", [1, MIN_ROWS])
def test_fused_layers_compute_their_results_in_one_product(calls, rows):
    layers, states = three(), torch.randn(rows, WIDTH)
    with torch.no_grad():
        apart = [layer(states) for layer in layers]
        fuse_weights(layers)
        calls.clear()
        together = fused_projection(layers)(states)
        assert len(calls) == (rows >= MIN_ROWS)
    for one, other in zip(apart, together, strict=True):
        torch.testing.assert_close(one, other)


def test_fused_layers_are_saved_and_copied_separately(tmp_path):
    layers = three()
    before = [layer.weight.detach().clone() for layer in layers]
    fuse_weights(layers)
    save_file({str(place): layer.weight for place, layer in enumerate(layers)}, tmp_path / "a.safetensors")
    saved = load_file(tmp_path / "a.safetensors")
    copied = copy.deepcopy(nn.ModuleList(layers))
    for place, (layer, weight) in enumerate(zip(layers, before, strict=True)):
        for found in (layer.weight, saved[str(place)], copied[place].weight):
            torch.testing.assert_close(found.detach(), weight)


@pytest.mark.parametrize("case", ["apart", "bias", "adapter", "moved", "other order"])
def test_other_layers_are_called_one_by_one(case):
    layers = three(bias=case == "bias")
    if case != "apart":
        fuse_weights(layers)
    if case == "adapter":
        layers[1] = nn.Sequential(layers[1], nn.Identity())
    if case == "moved":
        layers[1].weight.data = layers[1].weight.data.clone()
    if case == "other order":
        layers = layers[::-1]
    states = torch.randn(MIN_ROWS, WIDTH)
    products = fused_projection(layers)(states)
    assert isinstance(products, list), "a fused projection would be a tuple"
    for layer, product in zip(layers, products, strict=True):
        torch.testing.assert_close(product, layer(states))


def adapted(layer: nn.Linear, rank: int, dtype: torch.dtype = torch.float32) -> LoraLinear:
    wide, narrow = layer.weight.shape[1], layer.weight.shape[0]
    return LoraLinear(layer, torch.randn(rank, wide, dtype=dtype), torch.randn(narrow, rank, dtype=dtype), 0.3)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("which", [(0, 1, 2), (0, 2), (1,)])
def test_each_adapter_is_added_to_its_own_layer(which, together):
    layers = three()
    if together:
        fuse_weights(layers)
    mixed = [adapted(each, 2 + place) if place in which else each for place, each in enumerate(layers)]
    states = torch.randn(MIN_ROWS, WIDTH)
    with torch.no_grad():
        apart = [layer(states) for layer in mixed]
        for one, other in zip(fused_projection(mixed)(states), apart, strict=True):
            torch.testing.assert_close(one, other)
        for layer, before in zip(mixed, apart, strict=True):  # after the halves have moved
            torch.testing.assert_close(layer(states), before)


def test_first_halves_of_adapters_share_one_tensor():
    mixed = [adapted(layer, 4) for layer in three()]
    fused_projection(mixed)
    assert len({layer.lora_a.untyped_storage().data_ptr() for layer in mixed}) == 1


def test_adapters_of_several_dtypes_are_called_one_by_one():
    dtypes = (torch.float32, torch.float64, torch.float32)
    mixed = [adapted(layer, 2, dtype) for layer, dtype in zip(three(), dtypes, strict=True)]
    states = torch.randn(MIN_ROWS, WIDTH)
    with torch.no_grad():
        for layer, product in zip(mixed, fused_projection(mixed)(states), strict=True):
            torch.testing.assert_close(product, layer(states))


@pytest.mark.usefixtures("onednn")
def test_the_projections_of_a_loaded_base_are_fused(base_folder):
    layer = load_base(base_folder).model.model.layers[0]
    attention = layer.self_attn
    states = torch.randn(MIN_ROWS, attention.q_proj.in_features)
    for layers in (
        [attention.q_proj, attention.k_proj, attention.v_proj],
        [layer.mlp.gate_proj, layer.mlp.up_proj],
    ):
        products = fused_projection(layers)(states)
        assert isinstance(products, tuple)
        for each, product in zip(layers, products, strict=True):
            torch.testing.assert_close(product, each(states))
