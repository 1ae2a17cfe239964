"""What products are computed in while weights, sums and losses stay fp32.

Owns the choice by device. Must not know recipes.
"""

import torch
from torch import Tensor, nn

from mongars.lm.token_rows import TokenRows
from mongars.training.config import Precision


def computes_in_bf16(precision: Precision, device: torch.device) -> bool:
    """Return whether matrix products are in bf16; "auto" means on a GPU."""
    return precision == "bf16" or (precision == "auto" and device.type == "cuda")


def states_of(encoder: nn.Module, rows: TokenRows, precision: Precision) -> Tensor:
    """Return the last states of the tokens of all rows, [tokens, hidden], as fp32."""
    device = next(encoder.parameters()).device
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=computes_in_bf16(precision, device)):
        states = rows.states(encoder)
    return states.float()
