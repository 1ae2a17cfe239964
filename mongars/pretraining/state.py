"""The state of a pretraining run and its checkpoint: weights, optimizers, step and loss curve.

The format is safetensors, without pickle, with the rest as JSON in the header. There is no random state: the rows
of a step depend on the step alone, and the model has no dropout.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from transformers import LlamaForCausalLM

from mongars.errors import TrainingError
from mongars.pretraining.config import PretrainConfig
from mongars.pretraining.job import CurvePoint
from mongars.pretraining.muon import Muon
from mongars.storage.atomic import replacing


@dataclass
class TrainingState:
    """A run after `step` steps. `seconds` is the training time over all starts.

    `losses` are those of the steps since the last point of the curve.
    """

    model: LlamaForCausalLM
    optimizers: Sequence[torch.optim.Optimizer]
    step: int = 0
    seconds: float = 0.0
    curve: list[CurvePoint] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @classmethod
    def fresh(cls, model: LlamaForCausalLM, config: PretrainConfig) -> "TrainingState":
        """Return the state before the first step: Muon for linear layers, AdamW for embeddings and norms."""
        embeddings = model.get_input_embeddings().weight  # tied to the head
        linear = [each for each in model.parameters() if each.ndim > 1 and each is not embeddings]
        norms = [each for each in model.parameters() if each.ndim == 1]
        muon = Muon(linear, config.learning_rate, weight_decay=config.weight_decay)
        # Betas of the GPT-3 paper (arXiv 2005.14165, appendix B).
        adamw = torch.optim.AdamW(
            [embeddings, *norms], config.learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        )
        return cls(model, (muon, adamw))

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step."""
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = rate

    def update(self) -> None:
        """Apply the gradients and clear them."""
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def save(self, path: Path, config: PretrainConfig) -> None:
        """Replace the checkpoint at `path`, atomically."""
        header = {
            "step": self.step,
            "seconds": round(self.seconds, 3),
            "steps": config.steps,
            "decay_starts": config.decay_starts,
            "curve": [asdict(point) for point in self.curve],
            "losses": self.losses,
        }
        tensors = {name: parameter.detach() for name, parameter in self.model.named_parameters()}
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        for optimizer in self.optimizers:
            for parameter, moments in optimizer.state.items():
                tensors |= {f"{key}|{names[parameter]}": tensor for key, tensor in moments.items()}
        with replacing(path) as stream:
            stream.write(save(tensors, metadata={"state": json.dumps(header)}))

    def load(self, path: Path, config: PretrainConfig) -> None:
        """Restore a checkpoint. Raises TrainingError if its learning rate already decays towards another end."""
        device = str(next(self.model.parameters()).device)
        with safe_open(str(path), "pt", device=device) as file:
            header = json.loads(file.metadata()["state"])
            _check_end(header, config)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(tensors[name])
        owners = {id(each): optimizer for optimizer in self.optimizers for each in _parameters(optimizer)}
        parameters = dict(self.model.named_parameters())
        for name, tensor in tensors.items():
            key, separator, parameter_name = name.partition("|")
            if separator:
                parameter = parameters[parameter_name]
                owners[id(parameter)].state[parameter][key] = tensor
        self.step, self.seconds = header["step"], header["seconds"]
        self.curve = [CurvePoint(**point) for point in header["curve"]]
        self.losses = header.get("losses", [])


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [each for group in optimizer.param_groups for each in group["params"]]


def _check_end(header: dict[str, Any], config: PretrainConfig) -> None:
    """Refuse a checkpoint whose past learning rates differ from those of this run."""
    same_end = (header["steps"], header["decay_starts"]) == (config.steps, config.decay_starts)
    if not same_end and header["step"] > min(header["decay_starts"], config.decay_starts):
        raise TrainingError(
            f"The run is at step {header['step']} of {header['steps']} and its learning rate is decaying.",
            remedy=f"Continue with steps={header['steps']}, "
            f"decay_steps={header['steps'] - header['decay_starts']}, or use another work folder.",
        )
