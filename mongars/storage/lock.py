"""A lock between processes on one file system."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mongars.errors import UnavailableError


@contextmanager
def file_lock(path: Path, timeout_s: float) -> Iterator[None]:
    """Lock the file `path` until the block ends or this process dies.

    Raises UnavailableError when another process keeps it locked for longer than `timeout_s` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=timeout_s)
    except Timeout:
        raise UnavailableError(
            f"Another process has locked {path} for {timeout_s:.0f} s.", remedy="Wait for it, or end it."
        ) from None
    try:
        yield
    finally:
        lock.release()
