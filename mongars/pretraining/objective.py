"""What a step of pretraining minimises, and the precision it is computed with.

Owns the loss as a module, so that several workers can wrap it to average gradients. Must not know optimizers or
steps.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import LinearCrossEntropyOptions, functional
from transformers import LlamaForCausalLM

from mongars.training.config import Precision
from mongars.training.objectives.precision import computes_in_bf16

# Positions whose logits stand in memory at once: with a vocabulary of 8,192, 8 MB that stay in the cache. With all
# 4,096 of a step at once it took 0.9 to 1.9 s, by page faults, and so 0.87 s (measured on two cores).
_POSITIONS = 256


class NextTokenLoss(nn.Module):
    """Mean cross entropy, in nats, of each token given those before it in its row."""

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
    """Let the products of fp32 matrices (the loss, the optimizer) be computed in bf16 (TF32 on a GPU), or not."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if bf16 else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
