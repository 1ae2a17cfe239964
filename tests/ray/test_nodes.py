"""A cluster that gains nodes and loses them: the registry's actor moves, and an elastic run resizes."""

import shutil
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
from mongars.registry import BaseSpec, PublishRequest
from mongars.registry.actor import ACTOR_NAME, ACTOR_OPTIONS, BlockingRegistryClient
from mongars.registry.service import RegistryService
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

BASE = BaseSpec("b" * 64, {"layers.0.self_attn.q_proj.weight": (4, 4)})
ROWS = 23  # no multiple of a step's rows
CPUS_PER_WORKER = 3  # of the four of the session's head: it has room for one worker
CONFIG = MNTPConfig(
    lora_rank=4,
    lora_dropout=0.0,
    learning_rate=1e-4,
    max_tokens=32,
    batch_rows=33,  # which two workers do not share equally
    micro_rows=2,  # many passes make a slow step: hundreds while nodes come and go, not thousands
    steps=100_000,  # the test stops the run
    checkpoint_steps=10,
    workers=2,
    min_workers=1,
)


@pytest.fixture
def add_node(ray_session: Cluster) -> Iterator[Callable[..., Any]]:
    """Return add_node(...) -> node; the nodes that the test leaves are removed."""
    before = set(ray_session.worker_nodes)
    yield ray_session.add_node
    for node in set(ray_session.worker_nodes) - before:
        ray_session.remove_node(node)


@pytest.fixture
def registry_namespace() -> Iterator[str]:
    yield "node-loss"
    ray.kill(ray.get_actor(ACTOR_NAME, namespace="node-loss"))


def test_the_registry_survives_the_node_of_its_actor(
    ray_session: Cluster,
    add_node: Callable[..., Any],
    registry_namespace: str,
    tmp_path: Path,
    write_adapter: Callable[..., Path],
) -> None:
    node = add_node(num_cpus=1, resources={"registry": 1})
    options = ACTOR_OPTIONS | {"namespace": registry_namespace, "resources": {"registry": 1}}
    actor = ray.remote(RegistryService).options(**options).remote(str(tmp_path / "encoders"), None)
    client = BlockingRegistryClient.connect(registry_namespace)
    done = client.publish(PublishRequest(write_adapter(tmp_path / "one", 1), "a", BASE))
    assert node_of(actor) == node.node_id
    ray_session.remove_node(node)
    other = add_node(num_cpus=1, resources={"registry": 1})
    assert client.snapshot().served("encoder") == done.adapter
    again = client.publish(PublishRequest(write_adapter(tmp_path / "two", 2), "a", BASE))
    assert again.generation == 2
    assert node_of(ray.get_actor(ACTOR_NAME, namespace=registry_namespace)) == other.node_id


def node_of(actor: Any) -> str:
    return str(ray.get(actor.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id())))


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


class StepLog:
    """The steps and losses that a run reports, and a way to wait for a condition that they bring about."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, float]] = []
        self._reported = threading.Condition()

    def __call__(self, step: int, _: int, loss: float, __: float) -> None:
        with self._reported:
            self.steps.append((step, loss))
            self._reported.notify_all()

    def wait_for(self, ready: Callable[[], bool]) -> None:
        with self._reported:
            assert self._reported.wait_for(ready, timeout=240)


def test_an_elastic_run_resizes_with_its_cluster_and_has_the_losses_of_one_worker(
    ray_session: Cluster,
    add_node: Callable[..., Any],
    part: Path,
    base_folder: Path,
    mlflow_database: Path,
    tmp_path: Path,
) -> None:
    dataset, output = DatasetRef("chats", "1", "d" * 64, "ready", ROWS), tmp_path / "out"
    uri = f"sqlite:///{shutil.copy(mlflow_database, tmp_path)}"
    log, failures = StepLog(), []
    trainer = MNTPTrainer(
        CONFIG,
        [part],
        dataset,
        base_folder,
        output,
        uri,
        log,
        cpus_per_worker=CPUS_PER_WORKER,
        retries=1,
        resize_check_s=1,
    )

    def train() -> None:
        try:
            trainer.train()
        except BaseException as error:  # noqa: BLE001 (the test asserts its type)
            failures.append(error)

    run = threading.Thread(target=train)  # Ray's nodes need the main thread
    run.start()
    log.wait_for(lambda: world_sizes(output) == [1])
    node = add_node(num_cpus=CPUS_PER_WORKER)
    recount_nodes()  # without it Ray notices within 20 s
    log.wait_for(lambda: world_sizes(output) == [1, 2])
    ray_session.remove_node(node)
    log.wait_for(lambda: world_sizes(output) == [1, 2, 1])
    (checkpoint,) = output.glob("*.checkpoint.safetensors")
    checkpoint.with_name(checkpoint.name.replace(".checkpoint.safetensors", ".stop")).touch()
    run.join()
    (stopped,) = failures
    assert isinstance(stopped, TrainingStoppedError), stopped

    progress = read_checkpoint(checkpoint).progress
    assert world_sizes(output) == [1, 2, 1]
    assert all(start % CONFIG.checkpoint_steps == 1 for start, _ in progress.world_sizes), "from its checkpoints"
    last = dict(log.steps)  # of a step that was lost and repeated, the last
    assert sorted(last) == list(range(1, progress.step + 1))
    expected = losses_of_one_worker(progress.step, tokenise([part], base_folder, CONFIG), base_folder)
    assert [last[step] for step in sorted(last)] == pytest.approx(expected, abs=1e-4)


def world_sizes(output: Path) -> list[int]:
    """Return the numbers of workers in order, by the checkpoint: steps that were lost do not count."""
    found = list(output.glob("*.checkpoint.safetensors"))
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
