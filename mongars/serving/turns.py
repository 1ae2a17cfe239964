"""Turns: how many replicas of a machine load an adapter at the same time.

Owns the lock files of one machine and one user. Must not know adapters. A publication reaches all replicas at
once, and a load is work of the processor: where replicas share cores, requests would wait for all loads together.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from mongars.files import private_folder

POLL_S = 0.005  # a load of a small adapter takes 50 ms


def turns_folder() -> Path:
    """Return the folder of the lock files: of this machine, so not under MONGARS_HOME, which may be shared."""
    return Path(tempfile.gettempdir()) / f"mongars-turns-{os.getuid()}"


@contextmanager
def loading_turn(folder: Path, *, cores: int | None = None) -> Iterator[None]:
    """Hold one of the turns that there are, half as many as cores of this process; wait for one in use.

    While four replicas swapped on two cores the median of embeddings fell from 3.0 to 1.5 times that in quiet, the
    p99 from 2.6 to 1.9 times (docs/results/2026-11-26-serving.md). A killed process gives its turn back.
    """
    turns = max(1, (cores or len(os.sched_getaffinity(0))) // 2)
    private_folder(folder)
    with FileLock(folder / f"loading-{os.getpid() % turns}.lock", poll_interval=POLL_S):
        yield
