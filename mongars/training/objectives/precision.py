"""Precision of matrix products; weights, sums and losses stay fp32."""

import torch
from torch import Tensor, nn

from mongars.lm.token_rows import TokenRows
from mongars.training.config import Precision


def computes_in_bf16(precision: Precision, device: torch.device) -> bool:
    """Return whether matrix products use bf16; "auto" means on a GPU."""
    return precision == "bf16" or (precision == "auto" and device.type == "cuda")


def states_of(encoder: nn.Module, rows: TokenRows, precision: Precision) -> Tensor:
    """Return the last hidden states of all rows' tokens, fp32 [tokens, hidden]."""
    device = next(encoder.parameters()).device
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=computes_in_bf16(precision, device)):
        states = rows.states(encoder)
    return states.float()
