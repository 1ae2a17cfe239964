import copy

import pytest
import torch
from torch import nn

from mongars.lm.adapters import clone_sharing_tensors
from mongars.lm.base import load_base
from mongars.lm.cpu import onednn as linear
from mongars.lm.cpu import optimize
from mongars.lm.cpu.onednn import MIN_ROWS, OneDnnLinear, PackedLinear, pack_weights, use_onednn

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
def test_products_and_gradients_equal_those_of_torch(calls, shape, bias):
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


def test_states_that_are_not_contiguous_are_multiplied_without_a_copy(calls):
    plain, other = pair()
    states = torch.randn(WIDTH, 2 * MIN_ROWS).t()[::2]
    torch.testing.assert_close(other(states), plain(states))
    assert calls == [MIN_ROWS]


@pytest.mark.parametrize("states", [torch.ones(MIN_ROWS - 1, WIDTH), torch.ones(0, WIDTH)])
def test_few_rows_are_multiplied_by_torch(calls, states):
    plain, other = pair()
    torch.testing.assert_close(other(states), plain(states), rtol=0, atol=0)
    assert not calls


def test_another_dtype_is_multiplied_by_torch(calls):
    plain, other = (layer.to(torch.bfloat16) for layer in pair())
    states = torch.ones(MIN_ROWS, WIDTH, dtype=torch.bfloat16)
    torch.testing.assert_close(other(states), plain(states), rtol=0, atol=0)
    assert not calls


def test_autocast_is_left_to_torch(calls):
    _, layer = pair()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(MIN_ROWS, WIDTH)).dtype is torch.bfloat16
    assert not calls


def test_a_loaded_base_uses_the_faster_library_of_its_processor(base_path, calls, onednn):
    model = load_base(base_path).model
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert layers
    assert all(type(layer) is (OneDnnLinear if onednn else nn.Linear) for layer in layers)
    model(input_ids=torch.arange(MIN_ROWS)[None])
    assert len(calls) == (len(layers) if onednn else 0)


def test_a_processor_without_a_vendor_has_no_mkl(tmp_path, monkeypatch):
    monkeypatch.setattr(linear, "CPU_INFO", tmp_path / "none")
    assert linear.onednn_is_faster()


@pytest.mark.parametrize("shape", [(0,), (1,), (16,), (3, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_weights_give_the_products_of_torch(shape, bias):
    plain, packed = pair(bias)
    pack_weights(packed)
    assert type(packed) is PackedLinear
    states = torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(packed(states), plain(states), rtol=1e-5, atol=1e-5)
    assert (packed.weight.shape, packed.weight.dtype) == (plain.weight.shape, plain.weight.dtype)
    assert torch.equal(packed.weight.to_dense(), plain.weight)


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN has no bf16 on this processor"
)
def test_packed_weights_in_bf16_give_bf16():
    plain, packed = (layer.to(torch.bfloat16) for layer in pair())
    pack_weights(packed)
    assert type(packed) is PackedLinear
    states = torch.randn(16, WIDTH, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    torch.testing.assert_close(packed(states), plain(states))


def test_weights_of_a_dtype_that_onednn_cannot_pack_do_not_change():
    _, layer = pair()
    layer.double()
    pack_weights(layer)
    assert type(layer) is OneDnnLinear
    assert layer.weight.layout is torch.strided


def test_a_layer_with_packed_weights_refuses_to_drop_a_gradient():
    _, layer = pair()
    pack_weights(layer)
    with pytest.raises(RuntimeError, match="load the base without packing"):
        layer(torch.ones(MIN_ROWS, WIDTH, requires_grad=True))


def test_a_base_is_packed_if_onednn_is_faster_and_gives_the_same_logits(base, base_path, onednn):
    packed = load_base(base_path, packed=True)
    layers = [module for module in packed.model.modules() if isinstance(module, nn.Linear)]
    assert layers
    assert all((type(layer) is PackedLinear) is onednn for layer in layers)
    ids = torch.arange(12)[None]
    with torch.inference_mode():
        torch.testing.assert_close(packed.model(input_ids=ids).logits, base.model(input_ids=ids).logits)


def test_a_packed_head_does_not_change_the_embedding_table(base, base_path, monkeypatch):
    monkeypatch.setattr(optimize, "onednn_is_faster", lambda: True)
    model = load_base(base_path, packed=True).model
    assert type(model.lm_head) is PackedLinear
    assert torch.equal(model.model.embed_tokens.weight, base.model.model.embed_tokens.weight)


def test_a_large_head_tied_to_the_embedding_table_is_not_copied(base_path, monkeypatch):
    monkeypatch.setattr(optimize, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(linear, "TIED_HEAD_BYTES", 1000)
    model = load_base(base_path, packed=True).model
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert type(model.model.layers[0].self_attn.o_proj) is PackedLinear


def test_copies_of_a_packed_tree_share_its_weights():
    _, layer = pair()
    tree = nn.Sequential(layer)
    pack_weights(tree)
    assert clone_sharing_tensors(tree)[0].weight is layer.weight
