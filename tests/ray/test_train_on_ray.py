"""Both stages of training through Ray Data, Ray Train, DeepSpeed and MLflow."""

import pickle
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel

from mongars.errors import AdapterRefusedError, DatasetRefusedError, InputError
from mongars.neurons.bidirectional import check_bidirectional
from mongars.records import DatasetRef
from mongars.registry.card import read_card
from mongars.storage.digests import folder_digest
from mongars.training.config import ContrastiveConfig
from mongars.training.trainer import TrainedAdapter, tokenise
from tests.ray.adapter_runs import CONFIG, HELD_OUT, ROWS, RunPlace

pytestmark = pytest.mark.ray

STAGE_2 = ContrastiveConfig(
    lora_rank=4,
    pairs="turns",
    dropout=0.0,
    learning_rate=3e-3,
    max_tokens=32,
    batch_pairs=8,
    steps=20,
    workers=1,
)


@pytest.fixture(scope="module")
def second_stage(whole) -> TrainedAdapter:
    """Return an adapter of stage 2 that started from that of the whole run."""
    return whole.place.trainer(STAGE_2, init_from=whole.adapter.folder).train()


@pytest.fixture
def empty_place(ray_session, place, tmp_path: Path) -> RunPlace:
    return place(tmp_path)


def test_the_loss_falls_and_every_step_is_reported_in_order(whole):
    metrics, progress = whole.adapter.metrics, whole.progress
    assert metrics["loss_last"] < metrics["loss_first"]
    assert progress.steps == list(range(1, CONFIG.steps + 1))
    assert progress.totals == {CONFIG.steps}
    assert progress.losses[-1] == metrics["loss_last"]


def test_mlflow_has_the_run_with_the_dataset_digest(whole):
    (run,) = whole.place.mlflow_runs("mongars-mntp")
    assert (run.info.run_id, run.info.status) == (whole.adapter.run_id, "FINISHED")
    assert run.data.tags["dataset_digest"] == whole.place.dataset.digest
    assert run.data.metrics["loss"] == whole.adapter.metrics["loss_last"]
    assert run.data.metrics["learning_rate"] == CONFIG.learning_rate
    assert run.inputs.dataset_inputs[0].dataset.name == "chats"
    assert whole.place.logged_steps(run.info.run_id) == list(range(1, CONFIG.steps + 1))


def test_mlflow_has_the_adapter_as_an_artifact_and_as_a_model_version(whole):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=whole.place.tracking_uri)
    names = {file.path for file in client.list_artifacts(whole.adapter.run_id, "adapter")}
    assert "adapter/adapter_model.safetensors" in names
    (version,) = client.search_model_versions(f"run_id = '{whole.adapter.run_id}'")
    assert version.tags["mongars.digest"] == folder_digest(whole.adapter.folder)


def test_plain_peft_loads_the_adapter_onto_a_plain_bidirectional_model(whole, base_folder):
    plain = AutoModel.from_pretrained(base_folder)
    plain.config.is_causal = False
    ids = torch.tensor([[1, 20, 21, 22]])
    with torch.no_grad():
        before = plain(input_ids=ids).last_hidden_state
        adapted = PeftModel.from_pretrained(plain, whole.adapter.folder)
        assert not torch.allclose(adapted(input_ids=ids).last_hidden_state, before)
    check_bidirectional(adapted)


def test_an_equal_run_is_not_trained_twice(whole):
    again = whole.place.trainer().train()
    assert again.reused
    first = whole.adapter
    assert (again.folder, again.metrics, again.run_id) == (first.folder, first.metrics, first.run_id)


def test_stage_2_starts_from_the_adapter_of_stage_1_and_its_loss_falls(whole, second_stage):
    assert second_stage.metrics["loss_last"] < second_stage.metrics["loss_first"]
    card = read_card(second_stage.folder)
    assert (card.objective, card.init_from) == ("contrastive", folder_digest(whole.adapter.folder))
    assert card.recipe == STAGE_2.model_dump(mode="json")
    weights, initial = (
        load_file(each.folder / "adapter_model.safetensors") for each in (second_stage, whole.adapter)
    )
    assert weights.keys() == initial.keys()
    assert not any(torch.equal(weights[name], initial[name]) for name in weights)


def test_mlflow_has_the_run_of_stage_2_with_its_parent_and_its_pairs(whole, second_stage):
    (run,) = whole.place.mlflow_runs("mongars-contrastive")
    assert run.info.run_id == second_stage.run_id
    assert run.data.tags["init_from"] == folder_digest(whole.adapter.folder)
    assert run.data.params["rows"] == str(ROWS - HELD_OUT), "a pair for each conversation that is not held out"
    assert run.data.metrics["batch_accuracy"] == second_stage.metrics["batch_accuracy_last"]


def test_an_equal_run_of_stage_2_from_the_same_parent_is_not_trained_twice(whole, second_stage):
    again = whole.place.trainer(STAGE_2, init_from=whole.adapter.folder).train()
    assert again.reused
    assert again.folder == second_stage.folder


def test_feedback_in_the_dataset_becomes_hard_negatives(ray_session, whole, base_folder):
    config = STAGE_2.model_copy(update={"pairs": "feedback"})
    pairs = tokenise(whole.place.catalog.parts(whole.place.dataset), base_folder, config)
    assert len(pairs) == ROWS - HELD_OUT
    with_negative = [length > 0 for length in pairs.negatives.lengths]
    assert with_negative == [number % 3 == 0 for number in range(ROWS) if number % 6 != 5]


@pytest.mark.parametrize("config", [CONFIG, STAGE_2], ids=["mntp", "contrastive"])
def test_ray_data_and_this_process_tokenise_alike(ray_session, place, base_folder, tmp_path, monkeypatch, config):
    here = place(tmp_path)
    parts = here.catalog.parts(here.dataset)
    local = tokenise(parts, base_folder, config)
    monkeypatch.setattr("mongars.training.trainer.LOCAL_ROWS", 0)
    assert pickle.dumps(tokenise(parts, base_folder, config)) == pickle.dumps(local)


def test_a_parent_of_another_rank_is_refused_before_anything_runs(whole):
    config = STAGE_2.model_copy(update={"lora_rank": 8})
    with pytest.raises(AdapterRefusedError, match="lora_rank 4"):
        whole.place.trainer(config, init_from=whole.adapter.folder).train()


def test_a_dataset_without_a_pair_is_refused(empty_place):
    config = STAGE_2.model_copy(update={"min_tokens": 100, "max_tokens": 128})
    with pytest.raises(DatasetRefusedError, match="no training text"):
        empty_place.trainer(config).train()


def test_a_dataset_without_training_text_is_refused_and_its_mlflow_run_has_failed(empty_place, tmp_path):
    (part,) = empty_place.catalog.parts(empty_place.dataset)
    rows = pq.read_table(part)
    held_out = tmp_path / "part.parquet"
    pq.write_table(rows.filter([split == "test" for split in rows["split"].to_pylist()]), held_out)
    with pytest.raises(DatasetRefusedError, match="no training text"):
        empty_place.trainer(parts=(held_out,)).train()
    (run,) = empty_place.mlflow_runs("mongars-mntp")
    assert run.info.status == "FAILED"


@pytest.mark.parametrize(("state", "rows"), [("quarantined", 24), ("draft", 24), ("erased", 24), ("ready", 0)])
def test_a_dataset_that_is_not_ready_or_empty_is_refused(empty_place, state, rows):
    dataset = DatasetRef("chats", "1", "d" * 64, state, rows)
    with pytest.raises(DatasetRefusedError):
        empty_place.trainer(dataset=dataset).train()


def test_a_damaged_part_or_tokenizer_is_named_before_a_worker_starts(empty_place, base_folder, tmp_path):
    broken = tmp_path / "part-9.parquet"
    broken.write_text("damaged")
    for parts in ((broken,), (tmp_path / "gone.parquet",)):
        with pytest.raises(DatasetRefusedError, match=r"chats@v1 is damaged: .*cannot be read"):
            empty_place.trainer(parts=parts).train()
    base = shutil.copytree(base_folder, tmp_path / "mine")
    (base / "tokenizer.json").write_text("{damaged")
    with pytest.raises(InputError, match="base model mine cannot be loaded"):
        empty_place.trainer(base_path=base).train()
