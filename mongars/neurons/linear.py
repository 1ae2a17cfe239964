"""Linear layers by oneDNN: torch's other library of matrix products on a CPU.

Owns which products of a model go there, and which are made as one. Must not know models or tokens. For float32,
torch itself always takes MKL, which is slow on processors that are not Intel's: on an AMD one oneDNN is 1.4 to
2.4 times as fast from 16 rows on (docs/results/2026-11-25-serving.md), on an Intel one MKL is up to 2.9 times as
fast as oneDNN below 64 rows (2026-11-26-serving.md). The vendor decides, and no measurement at the start: the
libraries differ in last bits, and the same training must give the same adapter.
"""

from collections.abc import Callable, Sequence
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


Products = Callable[[Tensor], Sequence[Tensor]]
"""From states [tokens, in] to what each of some linear layers makes of them, [tokens, out] each."""


def lay_together(layers: Sequence[nn.Linear]) -> None:
    """Put the weights of layers that read the same states into one tensor, one after the other.

    Each stays a parameter of its own layer, and is saved, copied and adapted as before; `products_of` then finds
    that one product makes all of them. The caller sees to it that nothing has put a weight elsewhere before.
    """
    joint = torch.cat([layer.weight.data for layer in layers])
    for layer, part in zip(layers, joint.split_with_sizes([layer.out_features for layer in layers]), strict=True):
        layer.weight.data = part


def products_of(layers: Sequence[nn.Module]) -> Products:
    """Return the products of layers that read the same states: one where their weights lie together, else each.

    A layer with a bias, or with an adapter in it, is called by itself, and so are those beside it.
    """
    kind = type(layers[0])
    plain = kind in (nn.Linear, OneDnnLinear) and all(
        type(layer) is kind and layer.bias is None for layer in layers
    )
    weights: list[Any] = [layer.weight for layer in layers] if plain else []
    joint = _joint([weight.data for weight in weights])
    if joint is None:
        return lambda states: [layer(states) for layer in layers]
    whole = kind(joint.shape[1], joint.shape[0], bias=False, device="meta")
    whole.weight = nn.Parameter(joint, requires_grad=False)
    sizes = [len(weight) for weight in weights]
    return lambda states: tuple(whole(states).split_with_sizes(sizes, dim=-1))


def _joint(weights: Sequence[Tensor]) -> Tensor | None:
    """Return weights that lie one after the other as one tensor, without a copy; None where they do not."""
    if not weights or not all(weight.is_contiguous() for weight in weights):
        return None
    first, columns = weights[0], weights[0].shape[1]
    place = first.storage_offset()
    for weight in weights:
        same = weight.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not same or weight.storage_offset() != place or weight.shape[1] != columns:
            return None
        place += weight.numel()
    return first.as_strided((sum(map(len, weights)), columns), first.stride())


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
