"""One real run: Ray Data, two workers of Ray Train, DeepSpeed, MLflow."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from transformers import AutoModel

from mongars.errors import DatasetRefusedError, InputError, TrainingError
from mongars.neurons.bidirectional import check_bidirectional
from mongars.records import DatasetRef
from mongars.storage.digests import folder_digest
from mongars.training.config import MNTPConfig
from mongars.training.trainer import MNTPTrainer, TrainedAdapter

pytestmark = pytest.mark.ray

CONFIG = MNTPConfig(
    lora_rank=4, lora_dropout=0.0, learning_rate=3e-3, max_tokens=32, batch_rows=8, steps=20, workers=2
)
DATASET = DatasetRef("chats", "1", "d" * 64, "ready", 24)


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {
            "id": f"row-{index:02d}",
            "split": "test" if index % 6 == 5 else "train",
            "messages": [{"role": "user", "content": "hello there, how are you today?"[index % 5 :]}],
        }
        for index in range(24)
    ]
    path = tmp_path_factory.mktemp("dataset") / "part-0.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture(scope="module")
def trainer(local_ray, part, base_folder, tmp_path_factory):
    """Return trainer(home, config, ...) -> MNTPTrainer."""

    def build(home: Path, config: MNTPConfig = CONFIG, *, parts=(part,), dataset=DATASET, on_progress=None):
        uri = f"sqlite:///{home / 'mlflow.db'}"
        return MNTPTrainer(config, parts, dataset, base_folder, home / "out", uri, on_progress)

    return build


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def steps() -> list[tuple[int, int, float, float]]:
    return []


@pytest.fixture(scope="module")
def trained(trainer, home, steps) -> TrainedAdapter:
    return trainer(home, on_progress=lambda *step: steps.append(step)).train()


def test_the_loss_falls_and_every_step_is_told_in_order(trained, steps):
    assert trained.metrics["loss_last"] < trained.metrics["loss_first"]
    assert [(step, total) for step, total, _, _ in steps] == [(step, 20) for step in range(1, 21)]
    assert steps[-1][2] == trained.metrics["loss_last"]


def test_the_run_is_in_mlflow_with_the_dataset_digest(trained, home):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{home / 'mlflow.db'}")
    run = client.get_run(trained.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["dataset_digest"] == DATASET.digest
    assert run.data.metrics["loss"] == trained.metrics["loss_last"]
    assert run.data.metrics["learning_rate"] == CONFIG.learning_rate
    assert run.inputs.dataset_inputs[0].dataset.name == DATASET.name
    assert [metric.step for metric in client.get_metric_history(trained.run_id, "loss")] == list(range(1, 21))
    names = {file.path for file in client.list_artifacts(trained.run_id, "adapter")}
    assert "adapter/adapter_model.safetensors" in names
    (version,) = client.search_model_versions(f"run_id = '{trained.run_id}'")
    assert version.tags["mongars.digest"] == folder_digest(trained.folder)


def test_the_adapter_loads_by_plain_peft_on_a_plain_model_and_is_bidirectional(trained, base_folder):
    plain = AutoModel.from_pretrained(base_folder)
    plain.config.is_causal = False
    ids = torch.tensor([[1, 20, 21, 22]])
    with torch.no_grad():
        before = plain(input_ids=ids).last_hidden_state
        adapted = PeftModel.from_pretrained(plain, trained.folder)
        assert not torch.allclose(adapted(input_ids=ids).last_hidden_state, before)
    check_bidirectional(adapted)


def test_an_equal_run_is_not_trained_twice(trained, trainer, home):
    again = trainer(home).train()
    assert again.reused
    assert (again.folder, again.metrics, again.run_id) == (trained.folder, trained.metrics, trained.run_id)


def test_an_equal_run_elsewhere_has_the_same_digest_and_leaves_nothing_else(trained, trainer, tmp_path):
    other = trainer(tmp_path).train()
    assert not other.reused
    assert folder_digest(other.folder) == folder_digest(trained.folder)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        other.folder.name,
        f"{other.folder.name}.run.json",
    }


def test_zero_3_with_accumulated_passes_has_the_same_losses(trained, trainer, tmp_path):
    other = trainer(tmp_path, CONFIG.model_copy(update={"zero_stage": 3, "micro_rows": 2})).train()
    assert other.metrics == pytest.approx(trained.metrics, rel=1e-4)


def test_a_workers_failure_is_its_own_typed_error_and_a_failed_run(trainer, tmp_path):
    from mlflow import MlflowClient

    config = CONFIG.model_copy(update={"target_modules": ("absent",)})
    with pytest.raises(TrainingError, match="no modules named absent") as caught:
        trainer(tmp_path, config).train()
    assert "Traceback" not in str(caught.value)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("mongars-mntp").experiment_id])
    assert run.info.status == "FAILED"


def test_a_dataset_without_text_to_train_on_is_refused(trainer, tmp_path):
    part = tmp_path / "part.parquet"
    rows = [{"id": "a", "split": "test", "messages": [{"role": "user", "content": "hello"}]}]
    pq.write_table(pa.Table.from_pylist(rows), part)
    with pytest.raises(DatasetRefusedError, match="no training text"):
        trainer(tmp_path, parts=(part,)).train()


@pytest.mark.parametrize(("state", "rows"), [("quarantined", 24), ("draft", 24), ("erased", 24), ("ready", 0)])
def test_a_dataset_that_is_not_ready_or_empty_is_refused(trainer, tmp_path, state, rows):
    with pytest.raises(DatasetRefusedError):
        trainer(tmp_path, dataset=DatasetRef("chats", "1", "d" * 64, state, rows)).train()


def test_a_damaged_part_and_a_damaged_tokenizer_are_named_before_a_worker_starts(
    trainer, base_folder, part, tmp_path
):
    broken = tmp_path / "part-9.parquet"
    broken.write_text("damaged")
    for parts in ((broken,), (tmp_path / "gone.parquet",)):
        with pytest.raises(DatasetRefusedError, match=r"chats@1 is damaged: .*cannot be read"):
            trainer(tmp_path, parts=parts).train()
    base = shutil.copytree(base_folder, tmp_path / "mine")
    (base / "tokenizer.json").write_text("{damaged")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with pytest.raises(InputError, match="base model mine cannot be loaded"):
        MNTPTrainer(CONFIG, [part], DATASET, base, tmp_path / "out", uri).train()
