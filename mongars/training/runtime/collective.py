"""Collective operations of the workers on the existing process group, other than those of DeepSpeed and DDP."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Return the number of workers in the process group."""
    return dist.get_world_size()


def sum_over_workers(values: Sequence[float]) -> list[float]:
    """Return the sums over all workers, on each of them."""
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    total: list[float] = tensor.tolist()
    return total


def gather_over_workers(own: Tensor) -> Tensor:
    """Return the workers' tensors concatenated along the first dimension, by rank and without gradient.

    Every worker must call it, with tensors of equal shapes.
    """
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own.detach().contiguous())
    return torch.cat(parts)
