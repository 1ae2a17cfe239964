import copy

import pytest
import torch
from torch import nn

from mongars.neurons import linear
from mongars.neurons.base import load_base
from mongars.neurons.linear import MIN_ROWS, OneDnnLinear, use_onednn

WIDTH = 48


def pair(bias: bool = True) -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    plain = nn.Linear(WIDTH, 20, bias=bias)
    other = copy.deepcopy(plain)
    use_onednn(other)
    assert type(other) is OneDnnLinear
    return plain, other


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(9,), (3, 5), (2, 3, 4)])
def test_the_products_and_all_gradients_are_those_of_torch(calls, shape, bias):
    results = []
    for layer in pair(bias):
        states = torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(1)).requires_grad_()
        product = layer(states)
        product.square().sum().backward()
        results.append([product, states.grad, *(each.grad for each in layer.parameters())])
    for plain, other in zip(*results, strict=True):
        torch.testing.assert_close(other, plain, rtol=1e-5, atol=1e-4)
    assert len(calls) == 3  # states to product, and the gradients of states and weight


def test_a_frozen_weight_gets_no_gradient_and_costs_no_product(calls):
    _, layer = pair()
    layer.requires_grad_(False)
    states = torch.randn(MIN_ROWS, WIDTH, requires_grad=True)
    layer(states).sum().backward()
    torch.testing.assert_close(states.grad, layer.weight.sum(0).expand(MIN_ROWS, -1))
    assert layer.weight.grad is None
    assert len(calls) == 2


def test_states_that_do_not_lie_in_one_piece_are_multiplied_as_they_are(calls):
    plain, other = pair()
    states = torch.randn(WIDTH, 2 * MIN_ROWS).t()[::2]
    torch.testing.assert_close(other(states), plain(states))
    assert calls == [MIN_ROWS]


@pytest.mark.parametrize("states", [torch.ones(MIN_ROWS - 1, WIDTH), torch.ones(0, WIDTH)])
def test_few_rows_stay_with_torch(calls, states):
    plain, other = pair()
    torch.testing.assert_close(other(states), plain(states), rtol=0, atol=0)
    assert not calls


def test_another_dtype_stays_with_torch(calls):
    plain, other = (layer.to(torch.bfloat16) for layer in pair())
    states = torch.ones(MIN_ROWS, WIDTH, dtype=torch.bfloat16)
    torch.testing.assert_close(other(states), plain(states), rtol=0, atol=0)
    assert not calls


def test_autocast_is_torchs_own(calls):
    _, layer = pair()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(MIN_ROWS, WIDTH)).dtype is torch.bfloat16
    assert not calls


def test_a_loaded_base_multiplies_by_the_library_that_is_faster_on_its_processor(base_path, calls, onednn):
    model = load_base(base_path).model
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert layers
    assert all(type(layer) is (OneDnnLinear if onednn else nn.Linear) for layer in layers)
    model(input_ids=torch.arange(MIN_ROWS)[None])
    assert len(calls) == (len(layers) if onednn else 0)


def test_a_processor_that_does_not_tell_its_vendor_has_no_mkl(tmp_path, monkeypatch):
    monkeypatch.setattr(linear, "CPU_INFO", tmp_path / "none")
    assert linear.onednn_is_faster()
