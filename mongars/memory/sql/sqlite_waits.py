"""Waiting where SQLite does not: it refuses some steps at once while another connection is at them.

Owns the repetition. Must not know tables. Elsewhere SQLite's own busy timeout waits.
"""

import sqlite3
import time
from collections.abc import Callable

PAUSE_S = 0.02


def retry_until(done: Callable[[], bool], timeout_s: float) -> bool:
    """Try until it is done or the time is over; return whether it is."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE_S)
    return True


def use_write_ahead_log(connection: sqlite3.Connection, timeout_s: float) -> None:
    """Give a file its write-ahead log, which it keeps: readers do not wait for the writer then.

    Only a new file has to be changed for it. Two processes that open one together lock each other out, and SQLite
    waits for neither. Raises sqlite3.OperationalError for a file that is in use all the time, and as SQLite does.
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
