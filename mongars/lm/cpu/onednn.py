"""Linear layers computed by oneDNN, torch's second library of matrix products on a CPU.

In float32 torch always uses MKL, which is slow on processors of other vendors than Intel; on Intel's it is the
faster one (docs/results/serving.md). The vendor decides, not a measurement at start: the libraries differ in the
last bits, and the same training must give the same adapter.

For inference the weights can be packed in the order in which oneDNN reads them, which makes small passes faster.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

MIN_ROWS = 8
"""With fewer rows MKL is as fast or faster."""
MKL_VENDOR = "GenuineIntel"
PACKED_FOR_ROWS = 16
"""The number of rows that the packed order is optimal for; others work as well."""
TIED_HEAD_BYTES = 64 * 2**20
"""Largest head, tied to the embedding table, that is packed as a copy; mongars-nano's has 8 MiB."""
CPU_INFO = Path("/proc/cpuinfo")


def onednn_is_faster() -> bool:
    """Return whether torch has oneDNN and the processor is not Intel's, for which MKL was written.

    A processor without a vendor in /proc/cpuinfo, such as an ARM one, has no MKL.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return not (CPU_INFO.is_file() and MKL_VENDOR in CPU_INFO.read_text(encoding="utf-8"))


def use_onednn(model: nn.Module) -> None:
    """Have the model's plain linear layers multiply by oneDNN, in copies of the tree and in adapters too.

    Names and weights do not change.
    """
    for module in model.modules():
        if type(module) is nn.Linear:
            # The module is not replaced: peft and transformers look for nn.Linear instances with these weights.
            module.__class__ = OneDnnLinear


class OneDnnLinear(nn.Linear):
    """`nn.Linear` that multiplies float32 of at least MIN_ROWS rows by oneDNN on a CPU, gradients included."""

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
        return _multiply(states, self.weight, self.bias)


class PackedLinear(OneDnnLinear):
    """A layer whose weight is packed in oneDNN's order: an opaque tensor without gradients.

    `weight.to_dense()` unpacks it. Modules may share it; it cannot be copied or saved.
    """

    def forward(self, states: Tensor) -> Tensor:
        """Return states [..., in] times the weight, and the bias, [..., out].

        Raises RuntimeError when the states require a gradient, which this product would drop.
        """
        if torch.is_grad_enabled() and states.requires_grad:
            raise RuntimeError("A layer with packed weights has no gradients: load the base without packing.")
        return _multiply(states, self.weight, self.bias)


def pack_weights(model: nn.Module) -> None:
    """Pack the weights of a model's OneDnnLinear layers, for inference on the CPU.

    A packed weight replaces the original. A head tied to the embedding table gets a packed copy instead, unless it
    is larger than TIED_HEAD_BYTES.
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
    """Return whether oneDNN can pack weights of a dtype on this processor."""
    has_bf16: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32 or (dtype == torch.bfloat16 and has_bf16)


class _Product(torch.autograd.Function):
    """A linear layer with forward and backward products by oneDNN."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(states if weight.requires_grad else None, weight)
        return _multiply(states, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        states, weight = ctx.saved_tensors
        of_states, of_weight, of_bias = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)
        return (
            _multiply(gradient, weight.t(), None) if of_states else None,
            _multiply(rows.t(), states.flatten(0, -2).t(), None) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def _multiply(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # torch.compile lowers linear layers to this operator; it takes weights in any layout.
    product: Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
    return product
