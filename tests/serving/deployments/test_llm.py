import pytest
import torch
from torch import nn

from mongars.errors import SettingsError
from mongars.lm.cpu import optimize
from mongars.lm.cpu.onednn import PackedLinear
from mongars.serving.deployments.args import AppArgs
from mongars.serving.deployments.llm import served_base
from mongars.settings import Settings


@pytest.fixture
def args(tmp_path, base_folder):
    return AppArgs.from_settings(Settings(home=tmp_path, base_model=str(base_folder)))


@pytest.mark.parametrize(("name", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_a_replica_holds_the_base_in_the_dtype_of_its_config(args, monkeypatch, name, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    base = served_base(args.model_copy(update={"dtype": name}))
    assert {tensor.dtype for tensor in base.model.parameters()} == {dtype}


@pytest.mark.parametrize("faster", [True, False])
def test_a_replica_packs_the_weights_of_its_base_where_onednn_is_faster(args, monkeypatch, faster):
    monkeypatch.setattr(optimize, "onednn_is_faster", lambda: faster)
    layers = [module for module in served_base(args).model.modules() if isinstance(module, nn.Linear)]
    assert layers
    assert all((type(layer) is PackedLinear) is faster for layer in layers)


def test_a_replica_refuses_bfloat16_where_the_processor_has_none(args, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    with pytest.raises(SettingsError, match="no instructions for it"):
        served_base(args.model_copy(update={"dtype": "bfloat16"}))


def test_a_replica_refuses_cuda_where_it_sees_no_gpu(args, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="sees no GPU"):
        served_base(args.model_copy(update={"device": "cuda"}))
