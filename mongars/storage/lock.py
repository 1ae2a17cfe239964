"""One lock between processes on one file system. Must not know what it guards."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mongars.errors import UnavailableError


@contextmanager
def held(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold the lock file `path`; the system releases it when its holder dies.

    Raises UnavailableError when another process holds it for longer than `timeout_s` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=timeout_s)
    except Timeout:
        raise UnavailableError(
            f"Another process has held {path} for {timeout_s:.0f} s.", remedy="Wait for it, or end it."
        ) from None
    try:
        yield
    finally:
        lock.release()
