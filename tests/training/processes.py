"""Workers in real processes that share a real process group, under DeepSpeed; what they did is in files."""

import json
import os
import sys
from contextlib import suppress
from typing import Any

import torch
import torch.distributed as dist

from mongars.errors import TrainingStoppedError
from mongars.training.runtime.job import TrainingJob
from mongars.training.worker import run_worker


def work(rank: int, world: int, meeting: str, jobs: list[tuple[TrainingJob, int]], rows: Any) -> None:
    """Run jobs one after the other as one worker; each is asked to stop after some steps."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}  # DeepSpeed wants them
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    for job, stop_after in jobs:
        losses = []

        def told(report, job=job, stop_after=stop_after, losses=losses) -> None:
            losses.append([report.step, report.loss])
            if report.step == stop_after:
                job.stop.touch()

        with suppress(TrainingStoppedError):
            run_worker(job, rows, rank=rank, device=torch.device("cpu"), report=told)
        if rank == 0:
            job.stop.unlink(missing_ok=True)
            with job.folder.with_suffix(".losses").open("a") as file:
                file.writelines(f"{json.dumps(loss)}\n" for loss in losses)
    dist.barrier()  # a worker that leaves early would break the others' last collective
    dist.destroy_process_group()
    # All is in files. A usual exit aborts now and then: Gloo's thread drops the barrier's tensor while Python
    # ends, cannot have the GIL and is torn off within a destructor (seen in a core; torch 2.13, Python 3.11).
    sys.stderr.flush()
    os._exit(0)


def losses_of(job: TrainingJob) -> list[tuple[int, float]]:
    """Return (step, loss) of all steps that a job reported."""
    lines = job.folder.with_suffix(".losses").read_text().splitlines()
    return [tuple(json.loads(line)) for line in lines]
