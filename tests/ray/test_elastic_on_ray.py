"""A run whose cluster gains a node and loses it: it goes on by itself with the workers that there is room for."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from mongars.errors import TrainingStoppedError
from mongars.lm.base import load_base
from mongars.records import DatasetRef
from mongars.training.config import MNTPConfig
from mongars.training.loop import train_steps
from mongars.training.objectives.mntp import MNTPObjective
from mongars.training.runtime.adapter_writer import adapted_encoder
from mongars.training.runtime.checkpoint import read_checkpoint
from mongars.training.runtime.job import StepReport
from mongars.training.runtime.ray_train import recount_nodes
from mongars.training.trainer import MNTPTrainer, tokenise
from tests.training.conftest import PlainEngine, Workers

pytestmark = pytest.mark.ray

ROWS = 23  # no multiple of a step's rows
CONFIG = MNTPConfig(
    lora_rank=4,
    lora_dropout=0.0,
    learning_rate=1e-4,
    max_tokens=32,
    batch_rows=33,  # which two workers do not share equally
    micro_rows=2,  # many passes make a slow step: hundreds while nodes come and go, not thousands
    steps=100_000,  # it is stopped
    checkpoint_steps=10,
    workers=2,
    min_workers=1,
)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Start a head with room for one worker, and connect to it."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    ray.init(address=cluster.address, namespace="elastic", log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def part(tmp_path: Path) -> Path:
    rows = [
        {
            "id": f"row-{index:02d}",
            "split": "train",
            "messages": [{"role": "user", "content": "hello there, how are you today?"[index % 5 :]}],
        }
        for index in range(ROWS)
    ]
    path = tmp_path / "part-0.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


class Told:
    """What a run told of its steps, and a place to wait for them."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, float]] = []
        self._news = threading.Condition()

    def __call__(self, step: int, _: int, loss: float, __: float) -> None:
        with self._news:
            self.steps.append((step, loss))
            self._news.notify_all()

    def wait(self, ready: Callable[[], bool]) -> None:
        with self._news:
            assert self._news.wait_for(ready, timeout=240)


def test_a_run_grows_and_shrinks_with_its_cluster_and_has_the_losses_of_one_worker(
    cluster, part, base_folder, tmp_path
):
    dataset, place = DatasetRef("chats", "1", "d" * 64, "ready", ROWS), tmp_path / "out"
    uri, told, failures = f"sqlite:///{tmp_path / 'mlflow.db'}", Told(), []
    trainer = MNTPTrainer(CONFIG, [part], dataset, base_folder, place, uri, told, retries=1, resize_check_s=1)

    def train() -> None:
        try:
            trainer.train()
        except BaseException as error:  # noqa: BLE001 (looked at below)
            failures.append(error)

    run = threading.Thread(target=train)  # Ray's nodes want the main thread
    run.start()
    told.wait(lambda: worlds_kept(place) == [1])
    node = cluster.add_node(num_cpus=1)
    recount_nodes()  # else within 20 s
    told.wait(lambda: worlds_kept(place) == [1, 2])
    cluster.remove_node(node)
    told.wait(lambda: worlds_kept(place) == [1, 2, 1])
    (checkpoint,) = place.glob("*.checkpoint.safetensors")
    checkpoint.with_name(checkpoint.name.replace(".checkpoint.safetensors", ".stop")).touch()
    run.join()
    (stopped,) = failures
    assert isinstance(stopped, TrainingStoppedError), stopped

    progress = read_checkpoint(checkpoint).progress
    assert worlds_kept(place) == [1, 2, 1]
    assert all(start % CONFIG.checkpoint_steps == 1 for start, _ in progress.world_sizes), "from its checkpoints"
    last = dict(told.steps)  # of a step that was lost and done again, the last
    assert sorted(last) == list(range(1, progress.step + 1))
    expected = losses_of_one_worker(progress.step, tokenise([part], base_folder, CONFIG), base_folder)
    assert [last[step] for step in sorted(last)] == pytest.approx(expected, abs=1e-4)


def worlds_kept(place: Path) -> list[int]:
    """Return how many workers there were, one after the other, by the checkpoint: what was lost never was."""
    found = list(place.glob("*.checkpoint.safetensors"))
    return [workers for _, workers in read_checkpoint(found[0]).progress.world_sizes] if found else []


def losses_of_one_worker(steps: int, rows: Any, base_folder: Path) -> list[float]:
    """Return the losses of an undisturbed run, without Ray and DeepSpeed."""
    config = CONFIG.with_world_size(1).model_copy(update={"steps": steps, "micro_rows": None})
    base = load_base(base_folder)
    objective = MNTPObjective(config, base, rows)
    torch.manual_seed(config.seed)
    model = objective.model(adapted_encoder(base, config, "tiny")).train()
    reports: list[StepReport] = []
    train_steps(PlainEngine(model, config, 0, Workers(1)), objective, config, report=reports.append)
    return [report.loss for report in reports]
