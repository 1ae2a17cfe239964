"""What the workers of a run tell each other, on the process group that is already there.

Owns the collective operations that are not DeepSpeed's or DDP's. Must not know models.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Return how many workers the process group has."""
    return dist.get_world_size()


def sum_over_workers(values: Sequence[float]) -> list[float]:
    """Return the sums over all workers of the process group."""
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    total: list[float] = tensor.tolist()
    return total


def gather_over_workers(own: Tensor) -> Tensor:
    """Return the tensors of all workers, by rank, joined along the first dimension; no gradient goes through.

    All workers must call it, with tensors of one shape.
    """
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own.detach().contiguous())
    return torch.cat(parts)
