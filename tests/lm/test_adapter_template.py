"""A filled template is what peft would have built, over the base's tensors, and mixes nothing up."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from mongars.errors import AdapterRefusedError
from mongars.lm.adapter_template import AdapterTemplate
from mongars.lm.adapters import attach_adapter, clone_sharing_tensors
from mongars.neurons.bidirectional import bidirectional_encoder
from mongars.neurons.mean_pooling import VarlenMeanPooler, mean_pooler

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
    return template_of(base, write(1))


def template_of(base, folder: Path) -> AdapterTemplate | None:
    bare = bidirectional_encoder(base)
    return AdapterTemplate.of(bare, attach_adapter(clone_sharing_tensors(bare), folder))


def states(encoder: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return encoder(input_ids=IDS, attention_mask=torch.ones_like(IDS), use_cache=False).last_hidden_state


def test_a_filled_template_gives_the_states_of_pefts_adapter(base, template, write):
    made = {seed: (write(seed), template.filled(write(seed))) for seed in (2, 3)}
    for folder, filled in made.values():
        assert template.fits(folder)
        assert not filled.training
        expected = states(attach_adapter(bidirectional_encoder(base), folder))
        torch.testing.assert_close(states(filled), expected, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(states(made[2][1]), states(made[3][1]), atol=1e-3)


def test_a_filled_template_gives_the_means_of_pefts_adapter_without_padding(base, template, write):
    folder, windows = write(2), [[5, 6, 7, 8], [9], [10, 11]]
    filled, theirs = template.filled(folder), attach_adapter(bidirectional_encoder(base), folder)
    assert isinstance(mean_pooler(filled), VarlenMeanPooler)
    with torch.no_grad():
        torch.testing.assert_close(
            mean_pooler(filled)(windows), mean_pooler(theirs)(windows), rtol=1e-6, atol=1e-6
        )


def test_a_template_shares_the_base_tensors_and_keeps_no_adapter(base, template, write):
    ours = {tensor.data_ptr() for tensor in base.model.parameters()}
    filled = template.filled(write(2))
    assert all(tensor.data_ptr() in ours for name, tensor in filled.named_parameters() if "lora_" not in name)
    assert all(tensor.data_ptr() in ours for tensor in template._bare.parameters())


def test_filled_trees_share_no_module_and_have_none_of_peft(template, write):
    one, other = template.filled(write(2)), template.filled(write(2))
    assert not set(map(id, one.modules())) & set(map(id, other.modules()))
    assert not any("peft" in type(module).__module__ for module in one.modules())


@pytest.mark.parametrize(
    "more",
    [
        {"use_dora": True},
        {"lora_bias": True},
        {"modules_to_save": ["norm"]},
        {"layer_replication": [[0, 1], [0, 2]]},
    ],
)
def test_an_adapter_that_is_more_than_lora_in_linear_layers_has_no_template(base, write, more):
    assert template_of(base, write(8, **more)) is None


@pytest.mark.parametrize("more", [{}, {"rank_pattern": {"down_proj": 2}}, {"target_modules": "all-linear"}])
def test_an_adapter_of_plain_lora_has_a_template(base, write, more):
    assert template_of(base, write(9, **more)) is not None


@pytest.mark.parametrize(
    "change", [{"r": 8}, {"lora_alpha": 99}, {"target_modules": ["q_proj"]}, {"use_rslora": True}]
)
def test_an_adapter_of_another_form_does_not_fit(template, write, change):
    assert not template.fits(write(4, **change))


def test_origin_and_training_of_an_adapter_do_not_matter(template, write):
    folder = write(5, lora_dropout=0.2)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "elsewhere"}))
    assert template.fits(folder)


@pytest.mark.parametrize("damage", ["missing", "additional", "shape", "truncated"])
def test_weights_that_do_not_fit_the_form_are_refused(template, write, tmp_path, damage):
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
def test_a_missing_file_is_refused_without_a_request_to_the_hub(template, write, name):
    folder = write(7)
    (folder / name).unlink()
    with pytest.raises(AdapterRefusedError, match=name):
        template.fits(folder)
