"""Retries for the few operations to which SQLite's own busy timeout does not apply."""

import sqlite3
import time
from collections.abc import Callable

PAUSE_S = 0.02


def retry_until(done: Callable[[], bool], timeout_s: float) -> bool:
    """Call `done` until it returns True or the time is up; returns the last result."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE_S)
    return True


def use_write_ahead_log(connection: sqlite3.Connection, timeout_s: float) -> None:
    """Switch a file to a write-ahead log, with which readers do not wait for the writer.

    Two processes that open a new file at once lock each other out of the switch. Raises sqlite3.OperationalError
    for a file that stays locked, and for other errors as SQLite does.
    """

    def has_log() -> bool:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            return False
        return True

    if not retry_until(has_log, timeout_s):
        raise sqlite3.OperationalError("database is locked")
