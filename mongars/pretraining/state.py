"""Where a run is: weights, optimizer, step and loss curve, in one file that a killed run goes on from.

Owns the checkpoint's form: safetensors, the rest as JSON in its header; no pickle. The data's position is the step
(training/plan.py) and the model has no dropout, so there is no random state to keep. Must not know Ray or files of
text.
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
from mongars.pretraining.muon import Muon
from mongars.pretraining.run import CurvePoint
from mongars.storage.atomic import replacing


@dataclass
class TrainingState:
    """A run after `step` steps. `seconds` is the time that training took, over all its starts.

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
        """Return the start of a run: Muon for the linear layers, AdamW for embeddings and norms."""
        embeddings = model.get_input_embeddings().weight  # tied: the head's as well
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
        """Write the checkpoint in place of the one before, atomically."""
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
            for parameter, kept in optimizer.state.items():
                tensors |= {f"{key}|{names[parameter]}": tensor for key, tensor in kept.items()}
        with replacing(path) as stream:
            stream.write(save(tensors, metadata={"state": json.dumps(header)}))

    def load(self, path: Path, config: PretrainConfig) -> None:
        """Go to where a checkpoint is. Raises TrainingError when it has begun to decay towards another end."""
        device = str(next(self.model.parameters()).device)
        with safe_open(str(path), "pt", device=device) as file:
            header = json.loads(file.metadata()["state"])
            _check_end(header, config)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(tensors[name])
        owners = {id(each): one for one in self.optimizers for each in _parameters(one)}
        parameters = dict(self.model.named_parameters())
        for name, tensor in tensors.items():
            key, bar, of = name.partition("|")
            if bar:
                parameter = parameters[of]
                owners[id(parameter)].state[parameter][key] = tensor
        self.step, self.seconds = header["step"], header["seconds"]
        self.curve = [CurvePoint(**point) for point in header["curve"]]
        self.losses = header.get("losses", [])


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [each for group in optimizer.param_groups for each in group["params"]]


def _check_end(header: dict[str, Any], config: PretrainConfig) -> None:
    """Refuse a checkpoint whose learning rate was another than this run's would have been."""
    same_end = (header["steps"], header["decay_starts"]) == (config.steps, config.decay_starts)
    if not same_end and header["step"] > min(header["decay_starts"], config.decay_starts):
        raise TrainingError(
            f"The run is at step {header['step']} of {header['steps']} and its learning rate has begun to fall.",
            remedy=f"Go on with steps={header['steps']}, "
            f"decay_steps={header['steps'] - header['decay_starts']}, or start in another work folder.",
        )
