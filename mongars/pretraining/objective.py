"""The loss of pretraining as a module, which workers can wrap to average gradients, and its precision."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import LinearCrossEntropyOptions, functional
from transformers import LlamaForCausalLM

from mongars.training.config import Precision
from mongars.training.objectives.precision import computes_in_bf16

# Positions whose logits are in memory at once: 8 MB for a vocabulary of 8,192, which fits the cache.
_POSITIONS = 256


class NextTokenLoss(nn.Module):
    """Mean cross entropy, in nats, of each token given the tokens before it in its row."""

    def __init__(self, model: LlamaForCausalLM, precision: Precision) -> None:
        super().__init__()
        self.model = model
        self.bf16 = computes_in_bf16(precision, next(model.parameters()).device)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the loss of `rows`, int64 [rows, context], as an fp32 scalar."""
        with torch.autocast(rows.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            hidden = self.model.model(input_ids=rows, use_cache=False).last_hidden_state
        loss: Tensor = functional.linear_cross_entropy(
            hidden[:, :-1].flatten(0, 1).float(),
            self.model.lm_head.weight,
            rows[:, 1:].flatten(),
            options=LinearCrossEntropyOptions(batch_chunk_size=_POSITIONS, chunking_method=None),
        )
        return loss


@contextmanager
def matmul_precision(bf16: bool) -> Iterator[None]:
    """Set whether products of fp32 matrices (in loss and optimizer) may use bf16, or TF32 on a GPU."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if bf16 else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
