import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mongars.neurons import linear
from mongars.neurons.base import load_base
from mongars.neurons.linear import MIN_ROWS, OneDnnLinear, lay_together, products_of, use_onednn

WIDTH = 48


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """Return the rows of every product that oneDNN made."""
    made: list[int] = []
    original = linear._multiplied

    def counted(states, weight, bias):
        made.append(states.flatten(0, -2).shape[0])
        return original(states, weight, bias)

    monkeypatch.setattr(linear, "_multiplied", counted)
    return made


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


@pytest.fixture(params=[("AuthenticAMD", True), ("GenuineIntel", False)])
def onednn(request, tmp_path, monkeypatch) -> bool:
    """Run on a processor of a vendor; return whether oneDNN is the faster library there."""
    vendor, faster = request.param
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    monkeypatch.setattr(linear, "CPU_INFO", tmp_path / "cpuinfo")
    return faster


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


def three(bias: bool = False) -> list[nn.Linear]:
    """Return layers of different widths that read the same states, by oneDNN."""
    torch.manual_seed(0)
    layers = nn.ModuleList(nn.Linear(WIDTH, width, bias=bias) for width in (20, 8, 12))
    use_onednn(layers)
    return list(layers)


@pytest.mark.parametrize("rows", [1, MIN_ROWS])
def test_layers_that_lie_together_make_one_product_of_their_own_results(calls, rows):
    layers, states = three(), torch.randn(rows, WIDTH)
    with torch.no_grad():
        apart = [layer(states) for layer in layers]
        lay_together(layers)
        calls.clear()
        together = products_of(layers)(states)
        assert len(calls) == (rows >= MIN_ROWS)
    for one, other in zip(apart, together, strict=True):
        torch.testing.assert_close(one, other)


def test_layers_that_lie_together_are_saved_and_copied_each_with_its_own_weight(tmp_path):
    layers = three()
    before = [layer.weight.detach().clone() for layer in layers]
    lay_together(layers)
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
        lay_together(layers)
    if case == "adapter":
        layers[1] = nn.Sequential(layers[1], nn.Identity())
    if case == "moved":
        layers[1].weight.data = layers[1].weight.data.clone()
    if case == "other order":
        layers = layers[::-1]
    states = torch.randn(MIN_ROWS, WIDTH)
    products = products_of(layers)(states)
    assert isinstance(products, list), "one product would be a tuple of its parts"
    for layer, product in zip(layers, products, strict=True):
        torch.testing.assert_close(product, layer(states))


@pytest.mark.usefixtures("onednn")
def test_the_products_of_a_loaded_base_are_made_as_one(base_folder):
    layer = load_base(base_folder).model.model.layers[0]
    attention = layer.self_attn
    states = torch.randn(MIN_ROWS, attention.q_proj.in_features)
    for layers in (
        [attention.q_proj, attention.k_proj, attention.v_proj],
        [layer.mlp.gate_proj, layer.mlp.up_proj],
    ):
        products = products_of(layers)(states)
        assert isinstance(products, tuple)
        for each, product in zip(layers, products, strict=True):
            torch.testing.assert_close(product, each(states))
