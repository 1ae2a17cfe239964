"""Sums over the workers of a run, on the process group that is already there.

Owns the one collective operation that is not DeepSpeed's or DDP's. Must not know models.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist


def sum_over_workers(values: Sequence[float]) -> list[float]:
    """Return the sums over all workers of the process group."""
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    total: list[float] = tensor.tolist()
    return total
