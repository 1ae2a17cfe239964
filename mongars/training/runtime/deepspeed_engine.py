"""The model and its optimizer under DeepSpeed, on the existing process group."""

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
from mongars.training.loop import Outputs, TrainingBatch

MOMENTS = ("exp_avg", "exp_avg_sq")  # the names in torch's AdamW


class Trainable(Protocol):
    """A module whose only trainable weights are LoRA in its `encoder`."""

    encoder: nn.Module

    def smallest_batch(self) -> TrainingBatch:
        """Return a minimal batch of arbitrary tokens, on the CPU."""
        ...


class DeepSpeedEngine:
    """A `TrainingEngine` with ZeRO 0 to 3 over the LoRA weights and torch's AdamW, in fp32."""

    def __init__(self, model: Any, config: AdapterRecipe) -> None:
        # Otherwise the first start on a CPU compiles an op for over a minute, for the same losses.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        model.train()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._model: Trainable = model
        self._engine: Any = deepspeed.initialize(
            model=model,
            model_parameters=trained,
            # An object: for a name in the configuration DeepSpeed compiles its own optimizer for minutes.
            # No weight decay, like LLM2Vec (the default of transformers' Trainer).
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
        # DeepSpeed averages over workers and passes; the losses of the loop must be summed.
        self._averaged_over = config.workers * config.accumulation
        self._pending_pass = False

    def forward(self, batch: Any) -> Outputs:
        outputs: Outputs = self._engine(batch)
        return outputs

    def backward(self, loss: Tensor) -> None:
        if self._pending_pass:
            self._engine.step()  # between passes this only counts; DeepSpeed updates after the last one
        self._engine.backward(loss * self._averaged_over)
        self._pending_pass = True

    def step(self) -> None:
        self._engine.step()
        self._pending_pass = False

    def trained_weights(self) -> dict[str, Tensor]:
        """Return the full fp32 LoRA weights by the encoder's parameter names. Every worker must call it."""
        weights = {}
        for name, parameter in self._trained():
            full = safe_get_full_fp32_param(parameter)
            weights[name] = (parameter if full is None else full).detach().clone()
        return weights

    def moments(self) -> dict[str, Tensor]:
        """Return AdamW's full moments as `moment|parameter`, at any ZeRO stage. Every worker must call it."""
        return {
            f"{key}|{name}": self._moment(parameter, key).detach().clone()
            for name, parameter in self._trained()
            for key in MOMENTS
        }

    def resume(self, moments: Mapping[str, Tensor], step: int) -> None:
        """Restore AdamW's state after `step` steps. Every worker must call it, before its first step.

        The model must have had the weights of that step when the engine was created.
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
        """Take a step with a zero gradient, which leaves the weights unchanged.

        Neither AdamW nor ZeRO, which flattens and shards, has a state to restore before its first step.
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
        if self._stage == 0:  # plain data parallelism: each worker has torch's optimizer, unsharded
            self._engine.basic_optimizer.state[parameter][key].copy_(full)
        elif self._stage == 3:  # noqa: PLR2004 (its number)
            # safe_set_full_optimizer_state fails for parameters whose size the workers do not divide.
            local = safe_get_local_optimizer_state(parameter, key)
            own = nn.functional.pad(full.flatten(), (0, local.numel() * self._workers - full.numel()))
            own = own[local.numel() * dist.get_rank() :][: local.numel()]
            safe_set_local_optimizer_state(parameter, own, key)
        else:
            safe_set_full_optimizer_state(parameter, full, key)
