"""The model under DeepSpeed, on the process group that is already there.

Owns DeepSpeed's configuration and its averaging. Must not know Ray, rows or files.
"""

from typing import Any

import deepspeed
import torch
from deepspeed.utils import safe_get_full_fp32_param
from torch import Tensor

from mongars.training.config import MNTPConfig
from mongars.training.objectives import MaskedBatch, MNTPModel


class DeepSpeedEngine:
    """A `loop.Engine`: ZeRO 0 to 3 over the LoRA weights, AdamW of torch, fp32."""

    def __init__(self, model: MNTPModel, config: MNTPConfig) -> None:
        # Else its first start on a CPU compiles an op for 84 to 123 s; the losses are the same (measured).
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        model.train()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._model = model
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
        # DeepSpeed takes the mean over workers and over passes; the loop's shares are to be summed.
        self._averaged_over = config.workers * config.accumulation
        self._open_pass = False

    def forward(self, batch: MaskedBatch) -> tuple[Tensor, Tensor]:
        losses: Tensor
        right: Tensor
        losses, right = self._engine(batch)
        return losses, right

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
        for name, parameter in self._model.encoder.named_parameters():
            if parameter.requires_grad:
                full = safe_get_full_fp32_param(parameter)
                weights[name] = (parameter if full is None else full).detach().clone()
        return weights
