"""Workers in real processes under DeepSpeed, on a real process group. They leave their results in files."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from mongars.errors import TrainingStoppedError
from mongars.training.runtime.job import StepReport, TrainingJob
from mongars.training.worker import Rows, run_worker
from tests.worker_processes import run_workers


@dataclass(frozen=True)
class Run:
    """A job to train, to its end or until it is stopped after some step."""

    job: TrainingJob
    stop_after: int | None = None


def run_group(world: int, runs: Sequence[Run], rows: Mapping[str, Rows], rendezvous: Path) -> None:
    """Train the runs one by one, in one group of `world` processes; `rows` are by objective."""
    for run in runs:
        run.job.folder.parent.mkdir(parents=True, exist_ok=True)
    run_workers(_work, (world, rendezvous, runs, rows), world)


def losses_of(job: TrainingJob) -> list[tuple[int, float]]:
    """Return (step, loss) of all steps that a job reported, over all of its runs."""
    lines = _losses_file(job).read_text().splitlines()
    return [tuple(json.loads(line)) for line in lines]


def _work(rank: int, world: int, rendezvous: Path, runs: Sequence[Run], rows: Mapping[str, Rows]) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}  # for DeepSpeed
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    for run in runs:
        _train(run, rows[run.job.config.objective], rank)
    dist.barrier()  # a worker that leaves early would break the others' last collective
    dist.destroy_process_group()
    # A normal exit aborts now and then: Gloo's thread drops the barrier's tensor during Python's shutdown, cannot
    # take the GIL and is killed within a destructor (torch 2.13, Python 3.11).
    sys.stderr.flush()
    os._exit(0)


def _train(run: Run, rows: Rows, rank: int) -> None:
    losses: list[tuple[int, float]] = []

    def on_report(report: StepReport) -> None:
        losses.append((report.step, report.loss))
        if report.step == run.stop_after:
            run.job.stop.touch()

    with suppress(TrainingStoppedError):
        run_worker(run.job, rows, rank=rank, device=torch.device("cpu"), report=on_report)
    if rank == 0:
        run.job.stop.unlink(missing_ok=True)
        with _losses_file(run.job).open("a") as file:
            file.writelines(f"{json.dumps(loss)}\n" for loss in losses)


def _losses_file(job: TrainingJob) -> Path:
    return job.folder.with_suffix(".losses")
