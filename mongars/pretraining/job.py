"""The messages between the driver and the workers of a pretraining run.

Imports neither torch nor transformers, because every process that unpickles a message imports this module.
"""

from dataclasses import dataclass
from pathlib import Path

from mongars.errors import InputError
from mongars.pretraining.config import PretrainConfig
from mongars.training.runtime.unfinished_runs import CHECKPOINT


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The loss in nats per token: the mean over the steps since the last point, and on held-out text."""

    step: int
    loss: float
    learning_rate: float
    heldout_loss: float | None = None


@dataclass(frozen=True, slots=True)
class PretrainReport:
    """The progress of a run."""

    point: CurvePoint
    steps: int
    tokens_per_second: float  # over all workers


@dataclass(frozen=True, slots=True)
class PretrainJob:
    """The job of every worker. `folder` has the prepared text and the checkpoint; rank 0 writes `output`."""

    config: PretrainConfig
    folder: Path
    tokenizer: Path
    rows: Path
    heldout: Path | None
    output: Path
    sources: tuple[str, ...]  # names of the text files, for the card

    @property
    def checkpoint(self) -> Path:
        """The file from which a killed run resumes."""
        return self.folder / CHECKPOINT

    @property
    def stop(self) -> Path:
        """An empty file that asks the workers to write a checkpoint and stop."""
        return self.folder / "stop"


def check_output(output: Path) -> None:
    """Raise InputError unless `output` is an empty folder or does not exist."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output} is not empty.", remedy="Remove it, or choose another folder.", param="output")
