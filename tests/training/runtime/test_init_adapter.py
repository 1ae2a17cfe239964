import json

import pytest
import torch

from mongars.errors import AdapterRefusedError, InputError, TrainingError
from mongars.storage.digests import folder_digest
from mongars.training.config import ContrastiveConfig, MNTPConfig
from mongars.training.runtime.adapter_writer import adapted_encoder
from mongars.training.runtime.init_adapter import find_init_adapter, load_into

STAGE_1 = MNTPConfig(lora_rank=4, target_modules=("q_proj", "v_proj"))
STAGE_2 = ContrastiveConfig(lora_rank=4, target_modules=("v_proj", "q_proj"))


@pytest.fixture
def folder(write_parent, tmp_path):
    return write_parent(tmp_path / "parent", STAGE_1)


def test_a_run_starts_with_the_weights_of_the_given_adapter(folder, base, base_folder):
    source = find_init_adapter(folder, STAGE_2, base_folder, base.digest)
    assert source.digest == folder_digest(folder)
    torch.manual_seed(0)
    adapted = adapted_encoder(base, STAGE_2, "tiny")
    load_into(adapted, source)
    torch.manual_seed(5)  # the seed of write_parent
    expected = {
        name: torch.randn_like(each) / 10
        for name, each in adapted_encoder(base, STAGE_1, "tiny").named_parameters()
        if each.requires_grad
    }
    weights = {name: each for name, each in adapted.named_parameters() if each.requires_grad}
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("options", "listed"),
    [
        ({"lora_rank": 8}, "lora_rank 4"),
        ({"lora_alpha": 8}, "lora_alpha 32"),
        ({"target_modules": ("q_proj",)}, r"target_modules \['q_proj', 'v_proj'\]"),
    ],
)
def test_an_adapter_unlike_the_recipe_is_refused_with_the_difference(folder, base, base_folder, options, listed):
    with pytest.raises(AdapterRefusedError, match=listed):
        find_init_adapter(folder, STAGE_2.model_copy(update=options), base_folder, base.digest)


def test_another_scaling_of_the_weights_is_refused(folder, base, base_folder):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"use_rslora": True}))
    with pytest.raises(AdapterRefusedError, match="use_rslora"):
        find_init_adapter(folder, STAGE_2, base_folder, base.digest)


def test_an_adapter_of_another_base_is_refused(folder, base_folder):
    with pytest.raises(AdapterRefusedError, match="was trained on the base"):
        find_init_adapter(folder, STAGE_2, base_folder, "c" * 64)


def test_a_folder_that_is_missing_or_not_an_adapter_is_refused(base, base_folder, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        find_init_adapter(tmp_path / "absent", STAGE_2, base_folder, base.digest)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AdapterRefusedError, match=r"adapter_model\.safetensors"):
        find_init_adapter(tmp_path / "empty", STAGE_2, base_folder, base.digest)


def test_an_adapter_that_changed_since_the_start_is_refused(folder, base, base_folder):
    source = find_init_adapter(folder, STAGE_2, base_folder, base.digest)
    (folder / "card.json").write_text("{}")
    with pytest.raises(TrainingError, match="changed since"):
        load_into(adapted_encoder(base, STAGE_2, "tiny"), source)
