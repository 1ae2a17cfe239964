import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModel

from mongars.errors import TrainingError
from mongars.lm.adapters import attach_adapter
from mongars.neurons.bidirectional import bidirectional_encoder
from mongars.records import DatasetRef
from mongars.registry.card import read_card
from mongars.storage.digests import folder_digest
from mongars.training.config import ContrastiveConfig, MNTPConfig
from mongars.training.runtime.adapter_writer import adapted_encoder, adapter_card, write_adapter
from mongars.training.runtime.job import InitAdapter, ResumeSource, adapter_key, is_complete

DATASET = DatasetRef("chats", "1", "d" * 64, "ready", 40)


@pytest.fixture
def write(train, base):
    """Return write(folder, **options): train, write the adapter, return the trained encoder."""

    def run(folder, **options):
        reports, engine = train(steps=3, **options)
        config = MNTPConfig(steps=3, **options)
        trained = {name: p for name, p in engine.model.encoder.named_parameters() if p.requires_grad}
        card = adapter_card(config, DATASET, base, "tiny", {"loss_last": reports[-1].loss})
        write_adapter(folder, engine.model.encoder, trained, card)
        return engine.model.encoder

    return run


def test_plain_peft_loads_the_trained_weights_on_a_plain_model(write, base_folder, tmp_path):
    trained = write(tmp_path / "a", packing=False).eval()  # an encoder that packs accepts packed rows only
    plain = AutoModel.from_pretrained(base_folder)
    plain.config.is_causal = False
    loaded = PeftModel.from_pretrained(plain, tmp_path / "a").eval()
    ids = torch.tensor([[1, 20, 21, 22]])
    with torch.no_grad():
        states = [model(input_ids=ids, use_cache=False).last_hidden_state for model in (trained, loaded)]
    assert torch.equal(*states)


def test_serving_loads_the_folder(write, base, tmp_path):
    write(tmp_path / "a")
    attach_adapter(bidirectional_encoder(base), tmp_path / "a")


def test_equal_runs_have_equal_digests(write, tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "elsewhere" / "b")
    write(tmp_path / "c", seed=1)
    digests = [folder_digest(tmp_path / name) for name in ("a", "elsewhere/b", "c")]
    assert digests[0] == digests[1] != digests[2]


def test_the_registry_reads_the_card_and_no_file_names_a_path(write, base_folder, tmp_path):
    write(tmp_path / "a")
    assert read_card(tmp_path / "a").dataset_name == "chats@1"
    texts = [path.read_text() for path in (tmp_path / "a").glob("*.json")]
    assert not any(str(folder) in text for text in texts for folder in (tmp_path, base_folder))
    assert json.loads((tmp_path / "a" / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"


def test_a_folder_is_complete_after_writing_and_never_overwritten(write, tmp_path):
    assert not is_complete(tmp_path / "a")
    write(tmp_path / "a")
    assert is_complete(tmp_path / "a")
    with pytest.raises(FileExistsError):
        write(tmp_path / "a")


def test_a_target_module_that_is_not_linear_is_refused_by_name(base):
    with pytest.raises(TrainingError, match=r"tiny: .*LlamaRMSNorm.*Set target_modules"):
        adapted_encoder(base, MNTPConfig(target_modules=("input_layernorm",)), "tiny")


def test_a_base_without_a_target_module_is_refused_by_name(base):
    with pytest.raises(TrainingError, match="c_attn"):
        adapted_encoder(base, MNTPConfig(target_modules=("q_proj", "c_attn")), "tiny")


def test_the_key_depends_on_recipe_dataset_base_and_initial_adapter():
    config = MNTPConfig()
    keys = {
        adapter_key(config, DATASET, "b1"),
        adapter_key(config, DATASET, "b2"),
        adapter_key(MNTPConfig(seed=1), DATASET, "b1"),
        adapter_key(config, DatasetRef("chats", "2", "d" * 64, "ready", 40), "b1"),
        adapter_key(config, DATASET, "b1", None, InitAdapter(Path("p"), "a")),
        adapter_key(config, DATASET, "b1", None, InitAdapter(Path("elsewhere"), "b")),
        adapter_key(ContrastiveConfig(), DATASET, "b1"),
    }
    assert len(keys) == 7


def test_the_key_has_its_known_value():
    """Another key would train every adapter again."""
    base, resume_from, init_from = "b" * 64, ResumeSource(Path("p"), "c" * 64), InitAdapter(Path("p"), "a" * 64)
    assert adapter_key(MNTPConfig(), DATASET, base) == "e1aa0e40cc9ed3d7"
    assert adapter_key(MNTPConfig(), DATASET, base, resume_from, init_from) == "88008b4d269172e1"


def test_a_metric_that_is_not_finite_is_an_error_with_its_name(base):
    with pytest.raises(TrainingError, match="loss_last not finite"):
        adapter_card(MNTPConfig(), DATASET, base, "tiny", {"loss_last": float("nan")})
