"""Turns: how many replicas of a machine load an adapter at the same time.

Owns the lock files of one machine and one user. Must not know adapters. A publication reaches all replicas at
once, and a load is work of the processor: where replicas share cores, requests would wait for all loads together.
"""

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mongars.files import private_folder

logger = logging.getLogger(__name__)
POLL_S = 0.005  # a load of a small adapter takes 50 ms
PATIENCE_S = 10.0


def turns_folder(home: Path) -> Path:
    """Return the folder of the lock files: of this machine, as machines may share a home.

    Not a public temporary folder, where anybody could hold the locks or put something in their place.
    """
    return home / "turns" / (platform.node() or "here")


@contextmanager
def loading_turn(folder: Path, *, cores: int | None = None, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Hold one of the turns that there are, half as many as cores of this process; wait for one in use.

    A turn is a courtesy to requests beside the load: who waited for `patience_s` goes on without, so that a
    replica that hangs keeps no other from the newest version.

    While four replicas swapped on two cores the median of embeddings fell from 3.0 to 1.5 times that in quiet, the
    p99 from 2.6 to 1.9 times (docs/results/2026-11-26-serving.md). A killed process gives its turn back.
    """
    turns = max(1, (cores or len(os.sched_getaffinity(0))) // 2)
    private_folder(folder)
    lock = FileLock(folder / f"loading-{os.getpid() % turns}.lock", poll_interval=POLL_S)
    try:
        lock.acquire(timeout=patience_s)
    except Timeout:
        logger.warning("Another replica has been loading for %s s; this one loads beside it.", patience_s)
    try:
        yield
    finally:
        lock.release()
