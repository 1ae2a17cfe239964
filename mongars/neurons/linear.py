"""Linear layers by oneDNN: torch's other library of matrix products on a CPU.

Owns which products of a model go there. Must not know models or tokens. For float32, torch itself always takes
MKL, which is slow on processors that are not Intel's: on an AMD one oneDNN is 1.4 to 2.4 times as fast from 16
rows on (docs/results/2026-11-25-serving.md), on an Intel one MKL is up to 2.9 times as fast as oneDNN below 64
rows (2026-11-26-serving.md). The vendor decides, and no measurement at the start: the libraries differ in last
bits, and the same training must give the same adapter.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

MIN_ROWS = 8
"""With fewer rows MKL is as fast or faster (same measurement)."""
MKL_VENDOR = "GenuineIntel"
CPU_INFO = Path("/proc/cpuinfo")


def onednn_is_faster() -> bool:
    """Return whether torch has oneDNN and this processor is not one that MKL was written for.

    A processor that does not tell its vendor as Linux on x86 does, such as an ARM one, has no MKL.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return not (CPU_INFO.is_file() and MKL_VENDOR in CPU_INFO.read_text(encoding="utf-8"))


def use_onednn(model: nn.Module) -> None:
    """Have the model's plain linear layers multiply by oneDNN; names, weights and copies stay as they are.

    Copies of the tree, and adapters that wrap its layers, are included.
    """
    for module in model.modules():
        if type(module) is nn.Linear:
            # Not another module: peft and transformers look for instances of nn.Linear, and for these weights.
            module.__class__ = OneDnnLinear


class OneDnnLinear(nn.Linear):
    """`nn.Linear` whose float32 products on a CPU, of enough rows, are made by oneDNN. With gradients too."""

    def forward(self, states: Tensor) -> Tensor:
        """Return states [..., in] times the weight, and the bias, [..., out]."""
        suits = (
            states.device.type == "cpu"
            and states.dtype == self.weight.dtype == torch.float32
            and states.numel() >= MIN_ROWS * self.in_features
            and not torch.is_autocast_enabled("cpu")
        )
        if not suits:
            return linear(states, self.weight, self.bias)
        if torch.is_grad_enabled():
            product: Tensor = _Product.apply(states, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return product
        return _multiplied(states, self.weight, self.bias)


class _Product(torch.autograd.Function):
    """A linear layer whose two or three products are all made by oneDNN."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(states if weight.requires_grad else None, weight)
        return _multiplied(states, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        states, weight = ctx.saved_tensors
        of_states, of_weight, of_bias = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)
        return (
            _multiplied(gradient, weight.t(), None) if of_states else None,
            _multiplied(rows.t(), states.flatten(0, -2).t(), None) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def _multiplied(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # The operator that torch.compile puts in place of a linear layer; it takes weights in any layout.
    product: Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
    return product
