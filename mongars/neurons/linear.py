"""Linear layers by oneDNN: torch's other library of matrix products on a CPU.

Owns which products of a model go there. Must not know models or tokens. For float32, torch itself always takes
MKL, which is slow on processors that are not Intel's: on an AMD one oneDNN is 1.4 to 2.4 times as fast from 16
rows on, with the weights as they lie (docs/results/2026-11-25-serving.md).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

MIN_ROWS = 8
"""With fewer rows MKL is as fast or faster (same measurement)."""


def use_onednn(model: nn.Module) -> None:
    """Have the model's plain linear layers multiply by oneDNN; names, weights and copies stay as they are.

    Copies of the tree, and adapters that wrap its layers, are included. Does nothing where torch has no oneDNN.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
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
