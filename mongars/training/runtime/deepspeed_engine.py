"""The model under DeepSpeed, on the process group that is already there.

Owns DeepSpeed's configuration and its averaging. Must not know Ray, rows or files.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_get_local_optimizer_state,
    safe_set_full_optimizer_state,
    safe_set_local_optimizer_state,
)
from torch import Tensor, nn

from mongars.training.config import AdapterRecipe
from mongars.training.loop import Batch, Outputs

MOMENTS = ("exp_avg", "exp_avg_sq")  # what torch's AdamW calls them


class Trainable(Protocol):
    """A module with LoRA in its `encoder`; nothing else of it is trained."""

    encoder: nn.Module

    def smallest_batch(self) -> Batch:
        """Return any batch that goes through it."""
        ...


class DeepSpeedEngine:
    """A `loop.Engine`: ZeRO 0 to 3 over the LoRA weights, AdamW of torch, fp32."""

    def __init__(self, model: Any, config: AdapterRecipe) -> None:
        # Else its first start on a CPU compiles an op for 84 to 123 s; the losses are the same (measured).
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        model.train()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._model: Trainable = model
        self._engine: Any = deepspeed.initialize(
            model=model,
            model_parameters=trained,
            # Handed in: named in the configuration, DeepSpeed compiles its own for minutes.
            # No weight decay, as LLM2Vec's script (the default of transformers' Trainer).
            optimizer=torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=0.0),
            config={
                "train_micro_batch_size_per_gpu": config.micro_batch,
                "gradient_accumulation_steps": config.accumulation,
                "gradient_clipping": config.clip_norm,
                "zero_optimization": {"stage": config.zero_stage},
                "zero_allow_untested_optimizer": True,
            },
            dist_init_required=False,
        )[0]
        self._stage, self._workers, self._passes = config.zero_stage, config.workers, config.accumulation
        # DeepSpeed takes the mean over workers and over passes; the loop's shares are to be summed.
        self._averaged_over = config.workers * config.accumulation
        self._open_pass = False

    def forward(self, batch: Any) -> Outputs:
        outputs: Outputs = self._engine(batch)
        return outputs

    def backward(self, share: Tensor) -> None:
        if self._open_pass:
            self._engine.step()  # between two passes DeepSpeed only counts; the update comes after the last one
        self._engine.backward(share * self._averaged_over)
        self._open_pass = True

    def step(self) -> None:
        self._engine.step()
        self._open_pass = False

    def trained_weights(self) -> dict[str, Tensor]:
        """Return the full fp32 LoRA weights by the names of the encoder's parameters. All workers must call it."""
        weights = {}
        for name, parameter in self._trained():
            full = safe_get_full_fp32_param(parameter)
            weights[name] = (parameter if full is None else full).detach().clone()
        return weights

    def moments(self) -> dict[str, Tensor]:
        """Return AdamW's full moments as `moment|parameter`, at any ZeRO stage. All workers must call it."""
        return {
            f"{key}|{name}": self._moment(parameter, key).detach().clone()
            for name, parameter in self._trained()
            for key in MOMENTS
        }

    def resume(self, moments: Mapping[str, Tensor], step: int) -> None:
        """Take up AdamW where it was after `step` steps. All workers must call it, before their first step.

        The weights of that time must have been in the model already when the engine was made.
        """
        self._make_optimizer_state()
        for name, parameter in self._trained():
            for key in MOMENTS:
                self._set_moment(parameter, key, moments[f"{key}|{name}"].to(parameter.device))
        for state in self._engine.basic_optimizer.state.values():
            state["step"].fill_(step)

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, each) for name, each in self._model.encoder.named_parameters() if each.requires_grad)

    def _make_optimizer_state(self) -> None:
        """Take a step whose gradient is zero, which leaves the weights as they are.

        Neither AdamW nor ZeRO, which flattens and shards, has a state that could be set before its first step.
        """
        batch = self._model.smallest_batch().to(self._engine.device)
        for _ in range(self._passes):
            self.backward(self.forward(batch)[0].sum() * 0)
        self.step()

    def _moment(self, parameter: nn.Parameter, key: str) -> Tensor:
        full: Tensor | None = safe_get_full_optimizer_state(parameter, key)
        state: Tensor = self._engine.basic_optimizer.state[parameter][key] if full is None else full
        return state

    def _set_moment(self, parameter: nn.Parameter, key: str, full: Tensor) -> None:
        if self._stage == 0:  # plain data parallelism: torch's own optimizer, whole on each worker
            self._engine.basic_optimizer.state[parameter][key].copy_(full)
        elif self._stage == 3:  # noqa: PLR2004 (its number)
            # Not the call for the full state: it fails where a parameter does not divide by the workers.
            local = safe_get_local_optimizer_state(parameter, key)
            own = nn.functional.pad(full.flatten(), (0, local.numel() * self._workers - full.numel()))
            own = own[local.numel() * dist.get_rank() :][: local.numel()]
            safe_set_local_optimizer_state(parameter, own, key)
        else:
            safe_set_full_optimizer_state(parameter, full, key)
