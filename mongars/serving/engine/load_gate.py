"""Limits how many replicas of a machine load an adapter at the same time, by lock files.

A publication reaches all replicas at once, and loading takes CPU time: where replicas share cores, requests would
wait for all loads together.
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
POLL_S = 0.005
REST_S = 0.1
"""Pause between two loads, for the requests that queued up during the first."""
PATIENCE_S = 10.0


def load_gate_folder(home: Path) -> Path:
    """Return the folder of this machine's lock files; machines may share a home.

    A public temporary folder would let anybody hold or replace the locks.
    """
    return home / "load-gate" / (platform.node() or "here")


@contextmanager
def adapter_load_slot(folder: Path, *, cores: int | None = None, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Hold one of the machine's load slots, half as many as this process has cores; wait while it is in use.

    The next holder of a slot waits until REST_S after this load, because loads in a row would look like one long
    load to requests. The gate is a courtesy to them: after `patience_s` a load starts without a slot, so that a
    replica that hangs keeps no other from the newest version. A killed process frees its slot.
    Measurements: docs/results/serving.md.
    """
    slot = os.getpid() % max(1, (cores or len(os.sched_getaffinity(0))) // 2)
    private_folder(folder)
    lock, last = FileLock(folder / f"loading-{slot}.lock", poll_interval=POLL_S), folder / f"loaded-{slot}"
    try:
        lock.acquire(timeout=patience_s)
        _rest_after(last)
    except Timeout:
        logger.warning("Another replica has been loading for %s s; this one loads at the same time.", patience_s)
    try:
        yield
    finally:
        last.touch()
        lock.release()


def _rest_after(last: Path) -> None:
    with suppress(FileNotFoundError):
        since = time.time() - last.stat().st_mtime
        time.sleep(min(max(0.0, REST_S - since), REST_S))  # at most REST_S even after a clock was set back
