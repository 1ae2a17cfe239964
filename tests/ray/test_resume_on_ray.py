"""Runs that are stopped or killed for real, and go on: in this process, as a job and as a command."""

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.curation.catalog.manifest import Provenance
from mongars.curation.catalog.rows import ROW_SCHEMA
from mongars.errors import InputError, TrainingError, TrainingStoppedError
from mongars.storage.digests import folder_digest
from mongars.training.config import MNTPConfig
from mongars.training.trainer import MNTPTrainer, TrainedAdapter

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
KNOBS = {
    "lora_rank": 4,
    "lora_dropout": 0.1,
    "learning_rate": 3e-3,
    "max_tokens": 32,
    "batch_rows": 8,
    "steps": 60,
    "checkpoint_steps": 4,
}
CONFIG = MNTPConfig(**KNOBS)
TRAIN = (sys.executable, "-m", "mongars.cli.main", "train", "chats")
JOB = (sys.executable, "jobs/train_mntp.py", "--dataset", "chats")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> DatasetCatalog:
    catalog = DatasetCatalog(tmp_path_factory.mktemp("models") / "datasets")
    text = "hello there, how are you today?"
    rows = [
        {
            "id": f"row-{index:02d}",
            "subject": "sub_1",
            "split": "train",
            "source": "test",
            "language": "en",
            "messages": [{"role": "user", "content": text[index % 5 :]}],
        }
        for index in range(24)
    ]
    with catalog.open_draft("chats") as draft:
        draft.append(pa.Table.from_pylist(rows, schema=ROW_SCHEMA))
        catalog.publish(draft, Provenance(recipe={}, recipe_hash="r" * 8, rows_read=24, dropped={}))
    return catalog


@pytest.fixture(scope="module")
def trainer(local_ray, catalog, base_folder):
    """Return trainer(home, ...) -> MNTPTrainer."""

    def build(home: Path, config: MNTPConfig = CONFIG, *, on_progress=None, resume_from=None) -> MNTPTrainer:
        dataset = catalog.get("chats", "latest")
        uri = f"sqlite:///{home / 'mlflow.db'}"
        place = home / "training"
        parts = catalog.parts(dataset)
        return MNTPTrainer(config, parts, dataset, base_folder, place, uri, on_progress, resume_from=resume_from)

    return build


@pytest.fixture(scope="module")
def whole(trainer, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedAdapter, list[float]]:
    losses: list[float] = []
    home = tmp_path_factory.mktemp("whole")
    return trainer(home, on_progress=lambda _, __, loss, ___: losses.append(loss)).train(), losses


def files_beside(trained: TrainedAdapter) -> set[str]:
    return {path.name for path in trained.folder.parent.iterdir()} - {trained.folder.name}


def interrupt_at(at: int, steps: list[int] | None = None):
    def told(step: int, *_: object) -> None:
        if steps is not None:
            steps.append(step)
        if step == at:
            os.kill(os.getpid(), signal.SIGINT)

    return told


def test_a_run_whose_worker_is_killed_is_started_again_and_ends_with_the_same_bytes(whole, trainer, tmp_path):
    killed: list[psutil.Process] = []
    steps: list[int] = []

    def kill_once(step: int, *_: object) -> None:
        steps.append(step)
        if step >= 21 and not killed:
            workers = [each for each in psutil.Process().children(recursive=True) if is_worker(each)]
            killed.append(workers[-1])
            workers[-1].kill()

    trained = trainer(tmp_path, on_progress=kill_once).train()
    assert len(killed) == 1
    (back,) = (now for before, now in pairwise(steps) if now <= before)
    assert back % 4 == 1, "it went on from a checkpoint"
    assert back > 20, "and from the last one"
    assert folder_digest(trained.folder) == folder_digest(whole[0].folder)
    assert files_beside(trained) == {f"{trained.folder.name}.run.json"}


def is_worker(process: psutil.Process) -> bool:
    return "RayTrainWorker" in "".join(process.cmdline())


def test_a_run_that_is_interrupted_keeps_its_step_and_goes_on_in_the_same_mlflow_run(whole, trainer, tmp_path):
    from mlflow import MlflowClient

    handler = signal.getsignal(signal.SIGINT)
    steps: list[int] = []
    with pytest.raises(TrainingStoppedError) as stopped:
        trainer(tmp_path, on_progress=interrupt_at(9, steps)).train()
    assert signal.getsignal(signal.SIGINT) is handler
    assert f"after step {steps[-1]} of 60" in str(stopped.value)
    later: list[int] = []
    trained = trainer(tmp_path, on_progress=lambda step, *_: later.append(step)).train()
    assert steps + later == list(range(1, 61))
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("mongars-mntp").experiment_id])
    assert (run.info.run_id, run.info.status) == (trained.run_id, "FINISHED")
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")] == list(range(1, 61))
    assert folder_digest(trained.folder) == folder_digest(whole[0].folder)
    assert files_beside(trained) == {f"{trained.folder.name}.run.json"}


def test_one_worker_goes_on_from_the_checkpoint_of_two(whole, trainer, tmp_path):
    exact = CONFIG.model_copy(update={"lora_dropout": 0.0})
    expected: list[float] = []
    trainer(tmp_path / "whole", exact, on_progress=lambda _, __, loss, ___: expected.append(loss)).train()
    with pytest.raises(TrainingStoppedError):
        trainer(tmp_path / "two", exact, on_progress=interrupt_at(9)).train()
    (checkpoint,) = (tmp_path / "two" / "training").glob("*.checkpoint.safetensors")
    losses: list[float] = []
    one = exact.model_copy(update={"workers": 1, "zero_stage": 3})
    trained = trainer(
        tmp_path / "one", one, on_progress=lambda _, __, loss, ___: losses.append(loss), resume_from=checkpoint
    ).train()
    assert 0 < len(losses) < 60
    assert losses == pytest.approx(expected[-len(losses) :], abs=1e-4)
    assert checkpoint.exists(), "it is the other run's"
    assert "resumed_from" in json.loads((trained.folder / "card.json").read_text())


def test_a_checkpoint_that_does_not_fit_is_refused_before_a_worker_starts(trainer, tmp_path):
    with pytest.raises(InputError, match="not there"):
        trainer(tmp_path, resume_from=tmp_path / "nowhere.safetensors").train()
    with pytest.raises(TrainingStoppedError):
        trainer(tmp_path, on_progress=interrupt_at(3)).train()
    (checkpoint,) = (tmp_path / "training").glob("*.checkpoint.safetensors")
    other = CONFIG.model_copy(update={"seed": 5})
    with pytest.raises(TrainingError, match="differs in seed"):
        trainer(tmp_path, other, resume_from=checkpoint).train()


def until(process: subprocess.Popen[str], step: int) -> None:
    """Read what a job tells until it is at a step."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith("Training: ") and int(line.split()[1]) >= step:
            return
    pytest.fail(f"it ended before step {step}: {''.join(seen)}")


def test_a_job_that_is_stopped_and_then_killed_whole_ends_with_the_same_bytes(
    whole, catalog, base_folder, tmp_path
):
    places = {
        "MONGARS_HOME": str(tmp_path),
        "MONGARS_MODELS_DIR": str(catalog.root.parent),
        "MONGARS_BASE_MODEL": str(base_folder),
        "RAY_ADDRESS": "local",
    }
    knobs = [part for name, value in KNOBS.items() for part in ("--set", f"{name}={json.dumps(value)}")]

    def start(*command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, *knobs],
            cwd=ROOT,
            env=os.environ | places,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    stopped = start(*JOB)
    until(stopped, 9)
    stopped.send_signal(signal.SIGTERM)
    _, told = stopped.communicate()
    assert stopped.returncode == TrainingStoppedError.exit_code, told
    assert "Start the same run again" in told
    assert "Traceback" not in told

    killed = start(*JOB)
    until(killed, 25)
    for process in [psutil.Process(killed.pid), *psutil.Process(killed.pid).children(recursive=True)]:
        process.kill()
    killed.communicate()
    assert list((tmp_path / "training").glob(".ray-train-*")), "it had no time to clear up"

    ended = start(*TRAIN, "--json")
    printed, told = ended.communicate()
    assert ended.returncode == 0, told
    folder = Path(json.loads(printed)["folder"])
    assert folder_digest(folder) == folder_digest(whole[0].folder)
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, f"{folder.name}.run.json"}
