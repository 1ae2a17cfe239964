"""Where a run is, in one file that it goes on from.

Owns the file's form: safetensors with the full fp32 LoRA weights and AdamW's moments, the rest as JSON in its
header; no pickle. The rows of a step follow from the step (plan.py), masks from row and epoch, dropout from (seed,
step, rank), so there is no random state to keep. Nothing in it depends on the number of workers or on the ZeRO
stage. Must not know DeepSpeed.
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
    """A run after some steps: `weights` by the names of the encoder's parameters, `moments` as the engine's."""

    progress: Progress
    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]


def write_checkpoint(path: Path, kept: Checkpoint, fixed: Mapping[str, Any], label: str = "") -> None:
    """Write the checkpoint in place of the one before, atomically. `fixed` is the job's, to compare with later.

    `label` tells people whose text it is trained on.

    Raises TrainingError, and leaves the one before, when a value is not finite: nothing could go on from it.
    """
    tensors = {**kept.weights, **kept.moments}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise TrainingError(
            f"The weights are not finite after step {kept.progress.step}; an earlier checkpoint is kept.",
            remedy="Lower learning_rate, or look for damaged rows.",
        )
    header = json.dumps({"progress": asdict(kept.progress), "fixed": fixed, "label": label})
    with replacing(path) as stream:
        stream.write(save({name: each.cpu().contiguous() for name, each in tensors.items()}, {"run": header}))


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint of a file that `check_checkpoint` found good, or that the run itself wrote."""
    with safe_open(str(path), "pt") as file:
        kept = json.loads(file.metadata()["run"])["progress"]
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    moments = {name: tensor for name, tensor in tensors.items() if "|" in name}
    weights = {name: tensor for name, tensor in tensors.items() if "|" not in name}
    world_sizes = tuple((step, workers) for step, workers in kept.get("world_sizes", ()))
    return Checkpoint(Progress(kept["step"], kept["metrics"], world_sizes), weights, moments)


def check_checkpoint(path: Path, job: TrainingJob) -> None:
    """Look whether a job can go on from a file, by its header alone.

    Raises InputError for a file that is no checkpoint, TrainingError for that of a run which differs in more than
    the free knobs.
    """
    try:
        with safe_open(str(path), "pt") as file:
            fixed = json.loads(file.metadata()["run"])["fixed"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is no checkpoint of a training run ({type(error).__name__}).",
            remedy="Name a KEY.checkpoint.safetensors that an unfinished run left; remove a damaged one.",
        ) from None
    different = [name for name, value in job.fixed.items() if fixed.get(name) != value]
    if different:
        raise TrainingError(
            f"The checkpoint is of a run that differs in {', '.join(different)}.",
            remedy="Give the knobs, the dataset version and the base of that run.",
        )


@torch.no_grad()
def load_weights(encoder: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put the weights of a checkpoint into a fresh model."""
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            parameter.copy_(weights[name])
