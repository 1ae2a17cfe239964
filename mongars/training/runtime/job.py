"""The messages between the driver and the workers of a run, and the names of its files.

Imports neither torch nor peft, because every process that unpickles a message imports this module.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mongars.records import DatasetRef
from mongars.storage.digests import canonical_json_digest
from mongars.training.config import AdapterRecipe
from mongars.training.runtime.unfinished_runs import CHECKPOINT

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json", "card.json")


# Fields that may differ between a run and the one whose checkpoint it resumes: neither the rows of a step nor the
# shapes of the weights depend on them. A lower learning rate can rescue a run whose loss was not finite.
RESUMABLE_FIELDS = frozenset(
    {"workers", "min_workers", "threads", "zero_stage", "micro_rows", "packing", "learning_rate"}
)


@dataclass(frozen=True, slots=True)
class ResumeSource:
    """The checkpoint of another run that this one continues. The result depends on it, hence the key does."""

    path: Path
    digest: str


@dataclass(frozen=True, slots=True)
class InitAdapter:
    """The adapter whose weights a run starts from. The result depends on it, hence the key does."""

    path: Path
    digest: str


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """The job of every worker. Rank 0 writes the adapter to `folder`; other files of the run are next to it."""

    config: AdapterRecipe
    dataset: DatasetRef
    base_path: Path
    base_name: str
    base_digest: str
    folder: Path
    resume_from: ResumeSource | None = None
    init_from: InitAdapter | None = None
    cpu_optimizations: bool = True

    @property
    def checkpoint(self) -> Path:
        """The run's own checkpoint, which is removed once the adapter exists."""
        return self.folder.with_name(f"{self.folder.name}.{CHECKPOINT}")

    @property
    def stop(self) -> Path:
        """An empty file that asks the workers to write a checkpoint and stop."""
        return self.folder.with_name(f"{self.folder.name}.stop")

    @property
    def fixed(self) -> dict[str, Any]:
        """The values that a run and the checkpoint it resumes from must share."""
        recipe = self.config.model_dump(mode="json", exclude=set(RESUMABLE_FIELDS))
        init_from = self.init_from.digest if self.init_from else None
        return recipe | {"dataset": self.dataset.digest, "base": self.base_digest, "init_from": init_from}


@dataclass(frozen=True, slots=True)
class StepReport:
    """The result of a step over all workers. `accuracy` is None if no target was hidden."""

    step: int  # from 1
    steps: int
    loss: float  # nats per target: a masked token, or a query
    accuracy: float | None  # share of hidden tokens predicted, or of positives ranked first
    accuracy_name: str
    tokens_per_second: float  # without padding
    padding_share: float
    workers: int
    gpu_memory: int | None = None  # peak bytes of the first worker; None on a CPU


@dataclass(frozen=True, slots=True)
class Progress:
    """The number of steps done, and the metrics for the card.

    `world_sizes` lists (first step from 1, workers) of each part of the run; a run that was resized has several.
    """

    step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    world_sizes: tuple[tuple[int, int], ...] = ()

    def advanced(self, report: StepReport) -> "Progress":
        """Return the progress after one more step. It is the same in equal runs."""
        values = {"loss": report.loss, report.accuracy_name: report.accuracy}
        metrics = {name: value for name, value in values.items() if value is not None}
        first = {f"{name}_first": value for name, value in metrics.items()}
        last = {f"{name}_last": value for name, value in metrics.items()}
        return Progress(report.step, first | dict(self.metrics) | last, self.world_sizes)

    def resized(self, workers: int) -> "Progress":
        """Return the progress with this number of workers from the next step on."""
        before = tuple(world for world in self.world_sizes if world[0] <= self.step)
        if before and before[-1][1] == workers:
            return replace(self, world_sizes=before)
        return replace(self, world_sizes=(*before, (self.step + 1, workers)))


def adapter_key(
    config: AdapterRecipe,
    dataset: DatasetRef,
    base_digest: str,
    resume_from: ResumeSource | None = None,
    init_from: InitAdapter | None = None,
) -> str:
    """Return the name of a run's folder: 16 hex digits of a digest over everything that its result depends on."""
    parts: list[Any] = [config.recipe_digest(), dataset.name, dataset.version, dataset.digest, base_digest]
    if resume_from:
        parts.append(resume_from.digest)
    if init_from:
        parts.append({"init_from": init_from.digest})
    return canonical_json_digest(parts)[:16]


def is_complete(folder: Path) -> bool:
    """Return whether a run has written its adapter, which appears atomically."""
    return all((folder / name).is_file() for name in ADAPTER_FILES)
