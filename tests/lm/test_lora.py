"""LoraLinear equals peft's layers, and does not replace layers that do more than LoRA."""

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from mongars.lm.lora import LoraLinear


def peft_layer(dtype: torch.dtype = torch.float32, **config) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 20, bias=False, dtype=dtype))
    lora = LoraConfig(**{"r": 3, "lora_alpha": 5, "target_modules": ["0"], "init_lora_weights": False} | config)
    return inject_adapter_in_model(lora, model)[0].eval()


@pytest.mark.parametrize("shape", [(12,), (1, 12), (5, 12), (2, 3, 12)])
@pytest.mark.parametrize("config", [{}, {"use_rslora": True}, {"rank_pattern": {"0": 7}}, {"lora_dropout": 0.5}])
@torch.no_grad()
def test_lora_linear_gives_what_peft_gives(shape, config):
    theirs = peft_layer(**config)
    ours = LoraLinear.of_peft(theirs)
    states = torch.randn(shape)
    torch.testing.assert_close(ours(states), theirs(states), rtol=1e-6, atol=1e-6)
    assert not torch.allclose(ours(states), theirs.base_layer(states), atol=1e-2)


@torch.no_grad()
def test_a_float32_adapter_of_a_bfloat16_layer_is_computed_as_in_peft():
    theirs = peft_layer(torch.bfloat16)
    for half in (theirs.lora_A, theirs.lora_B):
        half.float()  # as get_peft_model has them
    ours, states = LoraLinear.of_peft(theirs), torch.randn(4, 12, dtype=torch.bfloat16)
    assert ours(states).dtype is torch.bfloat16
    torch.testing.assert_close(ours(states), theirs(states), rtol=0, atol=0)


def test_the_tensors_are_those_of_peft():
    theirs = peft_layer()
    ours = LoraLinear.of_peft(theirs)
    assert ours.base_layer is theirs.base_layer
    assert ours.lora_a.data_ptr() == theirs.lora_A["default"].weight.data_ptr()
    assert not any(half.requires_grad for half in (ours.lora_a, ours.lora_b))


@pytest.mark.parametrize("case", ["dora", "merged", "disabled", "no adapter", "convolution"])
def test_layers_that_do_more_than_lora_are_not_converted(case):
    layer = peft_layer(use_dora=case == "dora")
    if case == "merged":
        layer.merge()
    if case == "disabled":
        layer.enable_adapters(False)
    if case == "no adapter":
        layer = layer.base_layer
    if case == "convolution":
        lora = LoraConfig(target_modules=["0"])
        layer = inject_adapter_in_model(lora, nn.Sequential(nn.Conv1d(2, 2, 1)))[0]
    assert LoraLinear.of_peft(layer) is None
