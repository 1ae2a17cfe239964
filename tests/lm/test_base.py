import shutil
from pathlib import Path

import pytest
import torch

from mongars.errors import InputError, SettingsError
from mongars.lm.base import Base, load_base, machine_dtype, resolve_dtype
from mongars.lm.base_files import base_model_digest


def test_a_base_is_loaded_for_inference_with_its_digest(base: Base, base_path: Path):
    assert not base.model.training
    assert base.digest == base_model_digest(base_path)


@pytest.mark.parametrize("checkpoint", [torch.float16, torch.bfloat16, torch.float32])
def test_a_cpu_computes_in_float32_and_a_gpu_in_the_dtype_of_the_checkpoint(
    monkeypatch: pytest.MonkeyPatch, checkpoint: torch.dtype
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert machine_dtype(checkpoint) is torch.float32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert machine_dtype(checkpoint) is checkpoint


@pytest.mark.parametrize("instructions", [{"amx_bf16": True}, {"avx512_bf16": True, "amx_bf16": False}])
def test_bfloat16_on_a_cpu_needs_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, instructions: dict[str, bool]
):
    assert resolve_dtype("auto", "cpu") is None
    assert resolve_dtype("float32", "cpu") is torch.float32
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, **instructions})
    assert resolve_dtype("bfloat16", "cpu") is torch.bfloat16
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": False})
    assert resolve_dtype("bfloat16", "cuda") is torch.bfloat16
    with pytest.raises(SettingsError, match=r"no instructions for it.*Leave dtype at auto"):
        resolve_dtype("bfloat16", "cpu")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_file_of_a_base_is_an_error_that_names_the_base(base_path: Path, tmp_path: Path, name: str):
    folder = shutil.copytree(base_path, tmp_path / "mine")
    (folder / name).write_text("{damaged")
    with pytest.raises(InputError, match=r"base model mine cannot be loaded .*Check the files for damage"):
        load_base(folder)


def test_a_model_without_attention_is_refused_by_name_and_with_a_remedy(base_path: Path, tmp_path: Path):
    from transformers import MambaConfig, MambaForCausalLM

    folder = shutil.copytree(base_path, tmp_path / "mamba")
    MambaForCausalLM(
        MambaConfig(vocab_size=300, hidden_size=8, num_hidden_layers=1, state_size=2)
    ).save_pretrained(folder)
    with pytest.raises(InputError, match=r"mamba has no max_position_embeddings.*such as Llama"):
        load_base(folder)
