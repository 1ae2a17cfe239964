"""What travels between the driver, the workers and Ray's own processes in a run.

Owns a run's name, the places of its files and its messages. Imports neither torch nor peft: every process that
unpickles a message imports this module, and those take seconds.
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


# What may change when a run goes on from the checkpoint of another one: neither the rows of a step nor the shapes
# of the weights depend on it. The learning rate is here for the run whose loss was not finite.
RESUMABLE_FIELDS = frozenset(
    {"workers", "min_workers", "threads", "zero_stage", "micro_rows", "packing", "learning_rate"}
)


@dataclass(frozen=True, slots=True)
class ResumeSource:
    """The checkpoint of another run that this one goes on from. It makes another adapter, so it is in the key."""

    path: Path
    digest: str


@dataclass(frozen=True, slots=True)
class InitAdapter:
    """The adapter whose weights a run starts from. It makes another adapter, so it is in the key."""

    path: Path
    digest: str


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What every worker of a run is told. `folder` is where rank 0 puts the adapter; the rest lies beside it."""

    config: AdapterRecipe
    dataset: DatasetRef
    base_path: Path
    base_name: str
    base_digest: str
    folder: Path
    resumed: ResumeSource | None = None
    parent: InitAdapter | None = None
    cpu_optimizations: bool = True

    @property
    def checkpoint(self) -> Path:
        """The file that the run itself goes on from. It is gone when the adapter is there."""
        return self.folder.with_name(f"{self.folder.name}.{CHECKPOINT}")

    @property
    def stop(self) -> Path:
        """An empty file that asks the workers to keep where they are and stop."""
        return self.folder.with_name(f"{self.folder.name}.stop")

    @property
    def fixed(self) -> dict[str, Any]:
        """All that must be the same where a checkpoint is taken up."""
        recipe = self.config.model_dump(mode="json", exclude=set(RESUMABLE_FIELDS))
        parent = self.parent.digest if self.parent else None
        return recipe | {"dataset": self.dataset.digest, "base": self.base_digest, "init_from": parent}


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step did, over all workers. `accuracy` is None when no target was hidden."""

    step: int  # from 1
    steps: int
    loss: float  # nats per target: a masked token, or a text whose positive is to be found
    accuracy: float | None  # share of truly masked tokens predicted right, or of positives ranked first
    accuracy_name: str
    tokens_per_second: float  # real tokens, without padding
    padding_share: float
    workers: int
    gpu_memory: int | None = None  # bytes, the most that the first worker held; None on a CPU


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: the steps done, and what its card will say of them.

    `world_sizes` has the first step (from 1) and the number of workers of each stretch of the run; more than one
    entry means that the run was resized.
    """

    step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    world_sizes: tuple[tuple[int, int], ...] = ()

    def advanced(self, report: StepReport) -> "Progress":
        """Return the progress with one more step. Nothing in it differs between two equal runs."""
        told = {"loss": report.loss, report.accuracy_name: report.accuracy}
        known = {name: value for name, value in told.items() if value is not None}
        first = {f"{name}_first": value for name, value in known.items()}
        last = {f"{name}_last": value for name, value in known.items()}
        return Progress(report.step, first | dict(self.metrics) | last, self.world_sizes)

    def resized(self, workers: int) -> "Progress":
        """Return the progress with so many workers from the next step on."""
        before = tuple(world for world in self.world_sizes if world[0] <= self.step)
        if before and before[-1][1] == workers:
            return replace(self, world_sizes=before)
        return replace(self, world_sizes=(*before, (self.step + 1, workers)))


def adapter_key(
    config: AdapterRecipe,
    dataset: DatasetRef,
    base_digest: str,
    resumed: ResumeSource | None = None,
    parent: InitAdapter | None = None,
) -> str:
    """Return the name of a run's folder: 16 hex digits over all that its result depends on."""
    parts: list[Any] = [config.recipe_digest(), dataset.name, dataset.version, dataset.digest, base_digest]
    if resumed:
        parts.append(resumed.digest)
    if parent:
        parts.append({"init_from": parent.digest})
    return canonical_json_digest(parts)[:16]


def is_complete(folder: Path) -> bool:
    """Say whether a run has finished its folder, which appears whole or not at all."""
    return all((folder / name).is_file() for name in ADAPTER_FILES)
