"""LoRA of a linear layer for inference (Hu et al. 2021, arXiv 2106.09685).

peft's own layer also switches and merges several adapters, in ten modules each, and is slower (docs/results).
"""

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

PEFT_NAME = "default"
"""peft's name of an adapter without one."""


class LoraLinear(nn.Module):
    """A linear layer plus `scaling` times `lora_b` [out, r] times `lora_a` [r, in]."""

    def __init__(self, base_layer: nn.Module, lora_a: Tensor, lora_b: Tensor, scaling: float) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.lora_a = nn.Parameter(lora_a, requires_grad=False)
        self.lora_b = nn.Parameter(lora_b, requires_grad=False)
        self.scaling = scaling

    def forward(self, states: Tensor) -> Tensor:
        """Return the layer's output of states [..., in] with LoRA, [..., out], in the layer's dtype."""
        low = linear(states.to(self.lora_a.dtype), self.lora_a)
        return self.added(self.base_layer(states), low)

    def added(self, product: Tensor, low: Tensor) -> Tensor:
        """Return `product` [..., out] plus LoRA's, given the low-rank states `low` [..., r]."""
        if product.dtype != low.dtype:
            return (product + linear(low, self.lora_b) * self.scaling).to(product.dtype)
        rows = product.reshape(-1, product.shape[-1])
        added = torch.addmm(rows, low.reshape(-1, low.shape[-1]), self.lora_b.t(), alpha=self.scaling)
        return added.view(product.shape)

    @classmethod
    def of_peft(cls, layer: Any) -> Self | None:
        """Return a layer over the tensors of a peft layer; None when that does more than LoRA."""
        from peft.tuners.lora import Linear

        is_plain = (
            type(layer) is Linear
            and isinstance(layer.base_layer, nn.Linear)
            and layer.active_adapters == [PEFT_NAME]
            and not (layer.lora_variant or layer.merged or layer.disable_adapters or layer.fan_in_fan_out)
        )
        if not is_plain:
            return None
        lora_a, lora_b = layer.lora_A[PEFT_NAME], layer.lora_B[PEFT_NAME]
        return cls(layer.base_layer, lora_a.weight.data, lora_b.weight.data, layer.scaling[PEFT_NAME])
