"""Two pretraining workers in real processes that share a process group."""

import os
import sys

import numpy as np
import torch.distributed as dist

from mongars.pretraining.job import PretrainJob
from mongars.pretraining.worker import run_pretraining


def work(rank: int, meeting: str, job: PretrainJob) -> None:
    """Run a job as one of its workers; rank 0 writes the steps and losses into `<folder>/losses`."""
    world = job.config.workers
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    points: list[tuple[int, float]] = []
    run_pretraining(job, rank=rank, report=lambda report: points.append((report.point.step, report.point.loss)))
    if rank == 0:
        np.savetxt(job.folder / "losses", points)
    dist.barrier()
    dist.destroy_process_group()
    # A usual exit aborts now and then, as in tests/training/processes.py.
    sys.stderr.flush()
    os._exit(0)
