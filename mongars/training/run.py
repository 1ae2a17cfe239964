"""What travels between the driver, the workers and Ray's own processes in a run.

Owns a run's name and its messages. Imports neither torch nor peft: every process that unpickles a message imports
this module, and those take seconds.
"""

from dataclasses import dataclass
from pathlib import Path

from mongars.digests import canonical_json_digest
from mongars.records import DatasetRef
from mongars.training.config import MNTPConfig

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json", "card.json")


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What every worker of a run is told. `folder` is where rank 0 puts the adapter."""

    config: MNTPConfig
    dataset: DatasetRef
    base_path: Path
    base_name: str
    base_digest: str
    folder: Path


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step did, over all workers. `accuracy` is None when no target was hidden."""

    step: int  # from 1
    steps: int
    loss: float  # nats per target
    accuracy: float | None  # share of the truly masked positions predicted right
    tokens_per_second: float  # real tokens, without padding
    padding_share: float


def adapter_key(config: MNTPConfig, dataset: DatasetRef, base_digest: str) -> str:
    """Return the name of a run's folder: 16 hex digits over all that its result depends on."""
    parts = [config.recipe_digest(), dataset.name, dataset.version, dataset.digest, base_digest]
    return canonical_json_digest(parts)[:16]


def is_complete(folder: Path) -> bool:
    """Say whether a run has finished its folder, which appears whole or not at all."""
    return all((folder / name).is_file() for name in ADAPTER_FILES)
