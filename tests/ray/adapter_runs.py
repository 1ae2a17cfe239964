"""A small dataset, a recipe for it, and the places where adapter runs keep their files."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.curation.catalog.manifest import Provenance
from mongars.curation.catalog.rows import ROW_SCHEMA
from mongars.records import DatasetRef
from mongars.training.config import AdapterRecipe, MNTPConfig
from mongars.training.trainer import AdapterTrainer, TrainedAdapter

RECIPE: dict[str, Any] = {
    "lora_rank": 4,
    "lora_dropout": 0.1,
    "learning_rate": 3e-3,
    "max_tokens": 32,
    "batch_rows": 8,
    "micro_rows": 1,  # slow steps: a signal takes effect within a few of them
    "steps": 32,
    "checkpoint_steps": 4,
    "workers": 2,
}
CONFIG = MNTPConfig(**RECIPE)
ROWS, HELD_OUT = 24, 4


def publish_chats(root: Path) -> DatasetCatalog:
    """Return a catalog with the version chats@v1, in which every third conversation has a bad answer."""
    catalog = DatasetCatalog(root)
    with catalog.open_draft("chats") as draft:
        draft.append(pa.Table.from_pylist([_row(number) for number in range(ROWS)], schema=ROW_SCHEMA))
        catalog.publish(draft, Provenance(recipe={}, recipe_hash="r" * 8, rows_read=ROWS, dropped={}))
    return catalog


def _row(number: int) -> dict[str, Any]:
    question, answer = f"what is the word number {number}?", f"number {number} is {chr(97 + number)}"
    return {
        "id": f"row-{number:02d}",
        "subject": "sub_1",
        "split": "test" if number % 6 == 5 else "train",
        "source": "test",
        "language": "en",
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
        "opinions": [{"query": question, "text": f"number {number} is lost", "good": False}]
        if number % 3 == 0
        else [],
    }


@dataclass
class Progress:
    """What a run reports of its steps; `act(step)` is called for each."""

    act: Callable[[int], None] = lambda _: None
    steps: list[int] = field(default_factory=list)
    totals: set[int] = field(default_factory=set)
    losses: list[float] = field(default_factory=list)

    def __call__(self, step: int, total: int, loss: float, _: float) -> None:
        self.steps.append(step)
        self.totals.add(total)
        self.losses.append(loss)
        self.act(step)


@dataclass(frozen=True)
class RunPlace:
    """The folder of a user's runs, as `MONGARS_HOME` has it."""

    home: Path
    catalog: DatasetCatalog
    base: Path

    @property
    def output(self) -> Path:
        return self.home / "training"

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def dataset(self) -> DatasetRef:
        return self.catalog.get("chats", "latest")

    @property
    def checkpoint(self) -> Path:
        (path,) = self.output.glob("*.checkpoint.safetensors")
        return path

    def trainer(
        self, config: AdapterRecipe = CONFIG, on_progress: Progress | None = None, **options: Any
    ) -> AdapterTrainer:
        """Return a trainer of the session's dataset; `options` replace what it would be given."""
        given: dict[str, Any] = {
            "parts": self.catalog.parts(self.dataset),
            "dataset": self.dataset,
            "base_path": self.base,
            "output_dir": self.output,
            "tracking_uri": self.tracking_uri,
        }
        return AdapterTrainer(config, on_progress=on_progress, **(given | options))

    def files_next_to(self, adapter: Path) -> set[str]:
        return {path.name for path in self.output.iterdir() if path.suffix != ".lock"} - {adapter.name}

    def mlflow_runs(self, experiment: str) -> list[Any]:
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.tracking_uri)
        return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))

    def logged_steps(self, run_id: str) -> list[int]:
        from mlflow import MlflowClient

        history = MlflowClient(tracking_uri=self.tracking_uri).get_metric_history(run_id, "loss")
        return [metric.step for metric in history]


@dataclass(frozen=True)
class WholeRun:
    place: RunPlace
    adapter: TrainedAdapter
    progress: Progress


def training_workers() -> list[psutil.Process]:
    """Return the worker processes of Ray Train below this process."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "RayTrainWorker" in "".join(each.cmdline()):
                found.append(each)
    return found
