"""Training workers in real processes, without Ray."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch.multiprocessing

# Importing what a worker needs takes nine seconds of processor time. The fork server does it once, and each worker
# is a copy of it. It has run no torch operation, so there are no threads to lose in the copy.
multiprocessing.set_forkserver_preload(["mongars.training.worker", "mongars.pretraining.worker"])


def run_workers(work: Callable[..., None], arguments: tuple[Any, ...], world: int) -> None:
    """Run `work(rank, *arguments)` in `world` processes, and raise the first error of one."""
    torch.multiprocessing.start_processes(work, arguments, nprocs=world, start_method="forkserver")
