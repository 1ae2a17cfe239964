"""A filled template is what peft would have built, over the base's tensors, and mixes nothing up."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from mongars.errors import AdapterRefusedError
from mongars.neurons.adapter_template import AdapterTemplate
from mongars.neurons.bidirectional import attach_adapter, bidirectional_encoder

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def write(base, tmp_path):
    """Return write(seed, **config) -> the folder of an adapter of random weights."""

    def made(seed: int, **config) -> Path:
        torch.manual_seed(seed)
        lora = LoraConfig(
            **{"r": 4, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": False} | config
        )
        folder = tmp_path / f"adapter-{seed}"
        get_peft_model(bidirectional_encoder(base), lora).save_pretrained(folder)
        return folder

    return made


@pytest.fixture
def template(base, write):
    return AdapterTemplate.of(attach_adapter(bidirectional_encoder(base), write(1)))


def states(encoder: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return encoder(input_ids=IDS, attention_mask=torch.ones_like(IDS), use_cache=False).last_hidden_state


def test_a_filled_template_gives_the_states_of_the_adapter_that_peft_loads(base, template, write):
    made = {seed: (write(seed), template.filled(write(seed))) for seed in (2, 3)}
    for folder, filled in made.values():
        assert template.fits(folder)
        assert not filled.training
        assert torch.equal(states(filled), states(attach_adapter(bidirectional_encoder(base), folder)))
    assert not torch.allclose(states(made[2][1]), states(made[3][1]), atol=1e-3)


def test_it_shares_the_tensors_of_the_base_and_holds_no_adapter(base, template, write):
    ours = {tensor.data_ptr() for tensor in base.model.parameters()}
    filled = template.filled(write(2))
    assert all(tensor.data_ptr() in ours for name, tensor in filled.named_parameters() if "lora_" not in name)
    kept = [tensor for name, tensor in template._tree.named_parameters() if "lora_" in name]
    assert kept
    assert all(tensor.is_meta for tensor in kept)


@pytest.mark.parametrize(
    "change", [{"r": 8}, {"lora_alpha": 99}, {"target_modules": ["q_proj"]}, {"use_rslora": True}]
)
def test_an_adapter_of_another_form_does_not_fit(template, write, change):
    assert not template.fits(write(4, **change))


def test_how_an_adapter_was_trained_and_where_does_not_matter(template, write):
    folder = write(5, lora_dropout=0.2)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "elsewhere"}))
    assert template.fits(folder)


@pytest.mark.parametrize("damage", ["missing", "additional", "shape", "truncated"])
def test_weights_that_are_not_those_of_the_form_are_refused(template, write, tmp_path, damage):
    folder = Path(shutil.copytree(write(6), tmp_path / "damaged"))
    file = folder / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(iter(weights))
    if damage == "missing":
        del weights[name]
    if damage == "additional":
        weights["another"] = torch.zeros(1)
    if damage == "shape":
        weights[name] = weights[name][:-1].contiguous()
    save_file(weights, file)
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(AdapterRefusedError, match="damaged"):
        template.filled(folder)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_missing_file_is_refused_and_not_asked_of_the_hub(template, write, name):
    folder = write(7)
    (folder / name).unlink()
    with pytest.raises(AdapterRefusedError, match=name):
        template.fits(folder)
