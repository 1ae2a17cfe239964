"""Our copy equals that of copy.deepcopy with the same tensors."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from mongars.lm.cpu.module_copy import clone_module_tree
from mongars.neurons.bidirectional import bidirectional_encoder


class Block(nn.Module):
    """Refers to modules and tensors in every possible way."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)
        self.again = self.first
        self.others = [self.first, {"norm": self.norm}]
        self.named = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Identity()})
        self.scale = nn.ParameterList([nn.Parameter(torch.ones(4))])
        self.register_buffer("shift", torch.zeros(4))
        self.register_buffer("unsaved", torch.zeros(4), persistent=False)
        self.register_parameter("none", None)
        self.setting, self.seen, self.names = {"rate": [1, 2]}, set(), ("x", self.norm)

    def forward(self, states):
        return self.named["a"](self.norm(self.again(states)) * self.scale[0] + self.shift)


class Counted(nn.Linear):
    """Defines its own copying."""

    copies = 0

    def __deepcopy__(self, memo):
        Counted.copies += 1
        new = nn.Linear(self.in_features, self.out_features)
        new.weight, new.bias = memo.get(id(self.weight)), memo.get(id(self.bias))
        return new


def same(tree):
    return {id(tensor): tensor for tensor in (*tree.parameters(), *tree.buffers())}


def described(value, ids):
    """Return a value with modules and tensors replaced by their index in the tree, to compare trees."""
    if id(value) in ids:
        return ids[id(value)]
    if isinstance(value, dict):
        return type(value), {name: described(each, ids) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [described(each, ids) for each in value]
    return value


def form(tree):
    names = {id(module): f"module {name}" for name, module in tree.named_modules()}
    names |= {id(tensor): f"tensor {id(tensor)}" for tensor in (*tree.parameters(), *tree.buffers())}
    return {name: described(vars(module), names) for name, module in tree.named_modules()}


@pytest.mark.parametrize("frozen", [True, False])
def test_a_copy_equals_that_of_deepcopy_over_the_same_tensors(frozen):
    tree = nn.Sequential(Block(), nn.ReLU(), Block()).train(not frozen)
    quick, slow = clone_module_tree(tree, same(tree)), copy.deepcopy(tree, same(tree))
    assert form(quick) == form(slow) == form(tree)
    assert {id(module) for module in quick.modules()}.isdisjoint(id(module) for module in tree.modules())
    assert quick[0].others[1]["norm"] is quick[0].norm is quick[0].names[1]
    states = torch.randn(3, 4)
    assert torch.equal(quick(states), tree(states))


def test_changes_of_a_copy_do_not_reach_the_tree():
    tree = Block()
    quick = clone_module_tree(tree, same(tree))
    quick.register_forward_hook(lambda *_: torch.full((1,), 7.0))
    quick.setting["rate"].append(3)
    quick.seen.add("x")
    quick.named["c"] = nn.Identity()
    quick.first.weight = nn.Parameter(torch.zeros(4, 4))
    assert (tree.setting, tree.seen, set(tree.named)) == ({"rate": [1, 2]}, set(), {"a", "b"})
    assert not torch.equal(tree.first.weight, quick.first.weight)
    assert tree(torch.ones(1, 4)).shape == (1, 4)
    assert quick(torch.ones(1, 4)).item() == 7.0


@pytest.mark.parametrize("shared", [[], {}, {"one": None}, [1], nn.Parameter(torch.ones(1))])
def test_copies_share_what_their_originals_share(shared):
    tree = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    for module in tree:
        object.__setattr__(module, "log", shared)
    quick = clone_module_tree(tree, same(tree))
    assert quick[0].log is quick[1].log
    assert quick[0].log is not shared


def test_hooks_of_the_tree_are_hooks_of_the_copy():
    tree = Block()
    tree.register_forward_hook(lambda *_: torch.full((1,), 5.0))
    assert clone_module_tree(tree, same(tree))(torch.ones(1, 4)).item() == 5.0


def test_named_tensors_are_replaced_and_others_copied():
    tree, other = nn.Linear(2, 2), nn.Parameter(torch.ones(2, 2))
    quick = clone_module_tree(tree, {id(tree.weight): other})
    assert quick.weight is other
    assert quick.bias is not tree.bias
    assert torch.equal(quick.bias, tree.bias)


def test_a_module_that_defines_its_copying_is_copied_by_it():
    tree = nn.Sequential(nn.ReLU(), Counted(2, 2))
    Counted.copies = 0
    quick = clone_module_tree(tree, same(tree))
    assert Counted.copies == 1
    assert type(quick[1]) is nn.Linear
    assert quick[1].weight is tree[1].weight


def test_an_adapted_encoder_is_copied_whole(base):
    torch.manual_seed(1)
    lora = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    tree = get_peft_model(bidirectional_encoder(base), lora).eval()
    quick, slow = clone_module_tree(tree, same(tree)), copy.deepcopy(tree, same(tree))
    assert [name for name, _ in quick.named_modules()] == [name for name, _ in slow.named_modules()]
    assert {id(tensor) for tensor in quick.parameters()} == {id(tensor) for tensor in tree.parameters()}
    ids = torch.tensor([[5, 6, 7]])
    states = [each(input_ids=ids, use_cache=False).last_hidden_state for each in (quick, slow, tree)]
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])
