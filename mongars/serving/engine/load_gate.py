"""Turns: how many replicas of a machine load an adapter at the same time.

Owns the lock files of one machine and one user. Must not know adapters. A publication reaches all replicas at
once, and a load is work of the processor: where replicas share cores, requests would wait for all loads together.
"""

import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mongars.storage.atomic import private_folder

logger = logging.getLogger(__name__)
POLL_S = 0.005  # a load of a small adapter takes 50 ms
REST_S = 0.1  # between two loads, for the requests that gathered during the first
PATIENCE_S = 10.0


def load_gate_folder(home: Path) -> Path:
    """Return the folder of the lock files: of this machine, as machines may share a home.

    Not a public temporary folder, where anybody could hold the locks or put something in their place.
    """
    return home / "load-gate" / (platform.node() or "here")


@contextmanager
def adapter_load_slot(folder: Path, *, cores: int | None = None, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Hold one of the turns that there are, half as many as cores of this process; wait for one in use.

    Who holds it next rests first, until REST_S after this load: back to back, the loads of all replicas would be
    one long one to the requests.

    A turn is a courtesy to requests beside the load: who waited for `patience_s` goes on without, so that a
    replica that hangs keeps no other from the newest version.

    While four replicas swapped on two cores the median of embeddings fell from 3.0 to 1.5 times that in quiet, the
    p99 from 2.6 to 1.9 times (docs/results/2026-11-26-serving.md), and by the rest to 1.2 to 1.4 and 1.3 to 1.5
    times, for 0.3 s more of a publication (2026-11-27-serving.md). A killed process gives its turn back.
    """
    turns = max(1, (cores or len(os.sched_getaffinity(0))) // 2)
    private_folder(folder)
    turn = os.getpid() % turns
    lock, last = FileLock(folder / f"loading-{turn}.lock", poll_interval=POLL_S), folder / f"loaded-{turn}"
    try:
        lock.acquire(timeout=patience_s)
        _rest_after(last)
    except Timeout:
        logger.warning("Another replica has been loading for %s s; this one loads beside it.", patience_s)
    try:
        yield
    finally:
        last.touch()
        lock.release()


def _rest_after(last: Path) -> None:
    with suppress(FileNotFoundError):
        since = time.time() - last.stat().st_mtime
        time.sleep(min(max(0.0, REST_S - since), REST_S))  # a clock that was set back makes nobody wait for long
