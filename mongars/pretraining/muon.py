"""Muon: momentum orthogonalised before the update, for the weight matrices of linear layers.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon. Step size and weight decay are those of Moonlight
(arXiv 2502.16982, equation 4), so that Muon and AdamW can share a learning rate. torch's Muon iterates in bf16,
which is far slower on a CPU without bf16 instructions (docs/decisions/008).
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter

# Coefficients of the quintic iteration, from the post: singular values end between 0.7 and 1.2.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5
_EPSILON = 1e-7
_RMS = 0.2  # of AdamW's updates (Moonlight, section 2.2)


class Muon(torch.optim.Optimizer):
    """For matrices of linear layers; use AdamW for embeddings, heads and norms."""

    def __init__(
        self, params: Iterable[Parameter], lr: float, *, weight_decay: float, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override] # no closure, so no loss
        """Apply the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonal(parameter.grad.lerp(momentum, group["momentum"]))  # Nesterov
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * _RMS * math.sqrt(max(parameter.shape)))


def orthogonal(matrix: Tensor) -> Tensor:
    """Return approximately the nearest semi-orthogonal matrix [n, m], by Newton-Schulz iteration."""
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / (x.norm() + _EPSILON)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x if wide else x.T
