"""The checkpoint of a run, one file from which it can resume.

The format is safetensors, without pickle: full fp32 LoRA weights and AdamW's moments, everything else as JSON in
the header. There is no random state, because the rows of a step depend on the step, masks on row and epoch, and
dropout on (seed, step, rank). Nothing depends on the number of workers or the ZeRO stage.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mongars.errors import InputError, TrainingError
from mongars.storage.atomic import replacing
from mongars.training.runtime.job import Progress, TrainingJob


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run: `weights` by the names of the encoder's parameters, `moments` as from the engine."""

    progress: Progress
    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]


def write_checkpoint(path: Path, checkpoint: Checkpoint, fixed: Mapping[str, Any], label: str = "") -> None:
    """Replace the checkpoint at `path`, atomically.

    `fixed` is that of the job, for `check_checkpoint`. `label`, NAME@VERSION of the dataset, is shown to users.
    Raises TrainingError, and keeps the previous file, if a value is not finite.
    """
    tensors = {**checkpoint.weights, **checkpoint.moments}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise TrainingError(
            f"The weights are not finite after step {checkpoint.progress.step}; an earlier checkpoint is kept.",
            remedy="Lower learning_rate, or look for damaged rows.",
        )
    header = json.dumps({"progress": asdict(checkpoint.progress), "fixed": fixed, "label": label})
    with replacing(path) as stream:
        stream.write(save({name: each.cpu().contiguous() for name, each in tensors.items()}, {"run": header}))


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint in a file that `check_checkpoint` accepted or that the run itself wrote."""
    with safe_open(str(path), "pt") as file:
        progress = json.loads(file.metadata()["run"])["progress"]
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    moments = {name: tensor for name, tensor in tensors.items() if "|" in name}
    weights = {name: tensor for name, tensor in tensors.items() if "|" not in name}
    world_sizes = tuple((step, workers) for step, workers in progress.get("world_sizes", ()))
    return Checkpoint(Progress(progress["step"], progress["metrics"], world_sizes), weights, moments)


def check_checkpoint(path: Path, job: TrainingJob) -> None:
    """Check, by the header of a file, that a job can resume from it.

    Raises InputError for a file that is no checkpoint, and TrainingError if the runs differ in anything but
    `RESUMABLE_FIELDS`.
    """
    try:
        with safe_open(str(path), "pt") as file:
            fixed = json.loads(file.metadata()["run"])["fixed"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is no checkpoint of a training run ({type(error).__name__}).",
            remedy="Name the KEY.checkpoint.safetensors of an unfinished run; remove a damaged one.",
        ) from None
    different = [name for name, value in job.fixed.items() if fixed.get(name) != value]
    if different:
        raise TrainingError(
            f"The checkpoint is of a run that differs in {', '.join(different)}.",
            remedy="Use the options, the dataset version and the base of that run.",
        )


@torch.no_grad()
def load_weights(encoder: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy the weights of a checkpoint into a fresh model."""
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            parameter.copy_(weights[name])
