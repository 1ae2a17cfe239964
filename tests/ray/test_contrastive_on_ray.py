"""Both stages on Ray Data and Ray Train: stage 2 goes on from the adapter of stage 1."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel

from mongars.errors import AdapterRefusedError, DatasetRefusedError
from mongars.neurons.bidirectional import check_bidirectional
from mongars.records import DatasetRef
from mongars.registry.card import read_card
from mongars.storage.digests import folder_digest
from mongars.training.config import AdapterRecipe, ContrastiveConfig, MNTPConfig
from mongars.training.trainer import AdapterTrainer, TrainedAdapter

pytestmark = pytest.mark.ray

LORA = {"lora_rank": 4, "workers": 2}
STAGE_1 = MNTPConfig(**LORA, learning_rate=3e-3, max_tokens=32, batch_rows=8, steps=4)
STAGE_2 = ContrastiveConfig(
    **LORA, pairs="turns", dropout=0.0, learning_rate=3e-3, max_tokens=32, batch_pairs=8, steps=20
)
DATASET = DatasetRef("chats", "1", "d" * 64, "ready", 24)


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {
            "id": f"row-{index:02d}",
            "split": "test" if index % 6 == 5 else "train",
            "messages": [
                {"role": "user", "content": f"what is the word number {index}?"},
                {"role": "assistant", "content": f"number {index} is {chr(97 + index)}"},
            ],
            "opinions": [
                {"query": f"what is the word number {index}?", "text": f"number {index} is lost", "good": False}
            ]
            * (index % 3 == 0),
        }
        for index in range(24)
    ]
    path = tmp_path_factory.mktemp("dataset") / "part-0.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def train(local_ray, part, base_folder, home):
    """Return train(config, ...) -> TrainedAdapter."""

    def run(config: AdapterRecipe, **options) -> TrainedAdapter:
        uri = f"sqlite:///{home / 'mlflow.db'}"
        return AdapterTrainer(config, [part], DATASET, base_folder, home / "out", uri, **options).train()

    return run


@pytest.fixture(scope="module")
def first(train) -> TrainedAdapter:
    return train(STAGE_1)


@pytest.fixture(scope="module")
def second(train, first) -> TrainedAdapter:
    return train(STAGE_2, init_from=first.folder)


def test_the_loss_falls_and_the_card_names_the_adapter_that_it_began_with(first, second):
    assert second.metrics["loss_last"] < second.metrics["loss_first"]
    card = read_card(second.folder)
    assert (card.objective, card.init_from) == ("contrastive", folder_digest(first.folder))
    assert card.recipe == STAGE_2.model_dump(mode="json")


def test_feedback_gives_hard_negatives(train, first, second):
    third = train(STAGE_2.model_copy(update={"pairs": "feedback"}), init_from=first.folder)
    assert third.metrics["loss_first"] > second.metrics["loss_first"], "the same pairs, with more that is wrong"
    assert third.metrics["loss_last"] < third.metrics["loss_first"]


def test_the_run_is_in_mlflow_with_its_parent_and_its_pairs(first, second, home):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{home / 'mlflow.db'}")
    run = client.get_run(second.run_id)
    assert client.get_experiment(run.info.experiment_id).name == "mongars-contrastive"
    assert run.data.tags["init_from"] == folder_digest(first.folder)
    assert run.data.params["rows"] == "20", "a pair for each conversation that is not held out"
    assert run.data.metrics["batch_accuracy"] == second.metrics["batch_accuracy_last"]


def test_the_adapter_loads_by_plain_peft_and_differs_from_its_parent(first, second, base_folder):
    plain = AutoModel.from_pretrained(base_folder)
    plain.config.is_causal = False
    check_bidirectional(PeftModel.from_pretrained(plain, second.folder))
    weights, begun = (load_file(each.folder / "adapter_model.safetensors") for each in (second, first))
    assert weights.keys() == begun.keys()
    assert not any(torch.equal(weights[name], begun[name]) for name in weights)


def test_an_equal_run_is_not_trained_twice_and_another_parent_makes_another_run(train, first, second):
    assert train(STAGE_2, init_from=first.folder).folder == second.folder
    assert train(STAGE_2, init_from=first.folder).reused
    fresh = train(STAGE_2.model_copy(update={"steps": 2}))
    assert fresh.folder != second.folder
    assert read_card(fresh.folder).init_from is None


def test_a_parent_of_another_rank_is_refused_before_anything_runs(train, first):
    with pytest.raises(AdapterRefusedError, match="lora_rank 4"):
        train(STAGE_2.model_copy(update={"lora_rank": 8}), init_from=first.folder)


def test_a_dataset_without_a_pair_is_refused(train):
    with pytest.raises(DatasetRefusedError, match="no training text"):
        train(ContrastiveConfig(**LORA, min_tokens=100, max_tokens=128))
