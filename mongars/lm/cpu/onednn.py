"""Linear layers by oneDNN: torch's other library of matrix products on a CPU.

Owns which products of a model go there. Must not know models or tokens. For float32, torch itself always takes
MKL, which is slow on processors that are not Intel's: on an AMD one oneDNN is 1.4 to 2.4 times as fast from 16
rows on (docs/results/serving.md), on an Intel one MKL is up to 2.9 times as fast as oneDNN below 64
rows (2026-11-26-serving.md). The vendor decides, and no measurement at the start: the libraries differ in last
bits, and the same training must give the same adapter.

Passes that train nothing may also have the weights packed, in the order in which oneDNN reads them. A pass of 16
rows reads them faster so than as they lie in a file: mongars-nano in float32 in 2.7 ms in place of 4.8 (two
threads), in bf16 in 1.9 in place of 3.1 (docs/results/serving.md).
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
PACKED_FOR_ROWS = 16
"""The rows that the order of packed weights is chosen for; other counts of rows are multiplied as well."""
TIED_HEAD_BYTES = 64 * 2**20
"""A head that is also the table of embeddings is packed as a copy, up to this size: 8 MiB for mongars-nano."""
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


class PackedLinear(OneDnnLinear):
    """A layer whose weight is in oneDNN's own order: an opaque tensor with its shape and dtype, without gradients.

    `weight.to_dense()` gives it back as it was. Modules may share it; it cannot be copied or saved as it is.
    """

    def forward(self, states: Tensor) -> Tensor:
        """Return states [..., in] times the weight, and the bias, [..., out].

        Raises RuntimeError where a gradient of the states is wanted, which oneDNN's product would leave out.
        """
        if torch.is_grad_enabled() and states.requires_grad:
            raise RuntimeError("A layer with packed weights has no gradients: load the base without packing.")
        return _multiplied(states, self.weight, self.bias)


def pack_weights(model: nn.Module) -> None:
    """Pack the weights of a model's OneDnnLinear layers, for passes that train nothing; it stays on the CPU.

    Each takes the place of the weight as it was, but for a head that is also the table of embeddings: of that a
    packed copy is made, or none where it is large (`TIED_HEAD_BYTES`).
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for layer in [module for module in model.modules() if type(module) is OneDnnLinear]:
        weight = layer.weight
        is_large = id(weight) in tables and weight.numel() * weight.element_size() > TIED_HEAD_BYTES
        if is_large or not _packs(weight.dtype):
            continue
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.data.contiguous(), PACKED_FOR_ROWS)
        layer.weight = nn.Parameter(packed, requires_grad=False)
        layer.__class__ = PackedLinear


def _packs(dtype: torch.dtype) -> bool:
    """Return whether oneDNN packs weights of a dtype on this processor."""
    has_bf16: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32 or (dtype == torch.bfloat16 and has_bf16)


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
