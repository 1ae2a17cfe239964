"""Opens the database of the conversations: SQLite in a file, or PostgreSQL by psycopg 3.

Owns the engine, its settings per database and the translation of a database that fails into a typed error.
Must not know the tables' meaning: queries are in persistence.py.
"""

import importlib.util
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError

from mongars.errors import SettingsError, UnavailableError
from mongars.memory.sql import migrations
from mongars.memory.sql.sqlite_waits import retry_until, use_write_ahead_log
from mongars.storage.atomic import private_folder

BUSY_TIMEOUT_S = 30.0  # a writer waits this long for another process; one transaction takes milliseconds
_SCHEMA_LOCK = 0x6D6F6E67  # "mong": the PostgreSQL advisory lock under which the schema is upgraded
# What the database's state causes: not reachable, locked, full; SQLite's "not a database" has the bare class.
_FROM_OUTSIDE = (OperationalError, DatabaseError)
_WRITE, _FOREIGN_KEYS = "mongars_write", "mongars_foreign_keys"  # execution options of a transaction


class Database:
    """An engine and its transactions. Safe to share between threads."""

    def __init__(self, url: str) -> None:
        """Prepare the engine; nothing is opened yet. Raises SettingsError for a URL that cannot serve."""
        self._url = _checked_url(url)
        self._engine = _sqlite_engine(self._url) if self.is_sqlite else _postgres_engine(self._url)

    @property
    def is_sqlite(self) -> bool:
        """Whether the conversations are in a SQLite file."""
        return self._url.get_backend_name() == "sqlite"

    def migrate(self) -> None:
        """Upgrade the schema to the newest revision; several processes may do it at once.

        Raises RefusedError for a database of a newer version.
        """
        if self.is_sqlite:
            private_folder(Path(str(self._url.database)).parent)
        with self.transaction(write=False) as connection:
            if migrations.is_current(connection):
                return
        with self.transaction(write=True, foreign_keys=False) as connection:
            if not self.is_sqlite:  # there the transaction has the write lock
                connection.execute(select(func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
            migrations.upgrade(connection)

    @contextmanager
    def transaction(self, *, write: bool, foreign_keys: bool = True) -> Iterator[Connection]:
        """Yield a connection inside one transaction: committed at the end, rolled back on any error.

        Without `foreign_keys`, SQLite does not enforce them in this transaction; PostgreSQL always does. Raises
        UnavailableError when the database cannot be reached or stays locked.
        """
        try:
            with self._engine.connect() as raw:
                connection = raw.execution_options(**{_WRITE: write, _FOREIGN_KEYS: foreign_keys})
                with connection.begin():
                    yield connection
        except DatabaseError as error:
            if type(error) not in _FROM_OUTSIDE:  # a broken rule of the schema is our own fault
                raise
            raise UnavailableError(
                f"The database of the conversations failed ({type(error.orig).__name__}).",
                remedy="Check that MONGARS_DATABASE_URL names a running database that has room on its disk.",
            ) from error

    def scrub(self) -> None:
        """Take deleted text off the disk, where this process can: SQLite's pages and its write-ahead log.

        `secure_delete` has overwritten the rows by then; the truncated log held the older pages. On PostgreSQL
        the server's autovacuum and its recycling of the log decide, so there this does nothing.
        Raises UnavailableError when a reader kept the log in use for longer than the busy timeout.
        """
        if not self.is_sqlite:
            return
        # SQLite waits for readers and writers by itself, but not for another one that empties the log.
        if not retry_until(self._truncate_log, BUSY_TIMEOUT_S):
            raise UnavailableError(
                "The rows are deleted, but a long read keeps the database's log in use.",
                remedy="End the program that reads it; the next deletion or checkpoint empties the log.",
            )

    def _truncate_log(self) -> bool:
        raw = self._engine.raw_connection()
        try:
            cursor = raw.cursor()
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            row = cursor.fetchone()
            cursor.close()
        finally:
            raw.close()
        return row is not None and not row[0]

    def close(self) -> None:
        """Close every pooled connection."""
        self._engine.dispose()


def _checked_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise SettingsError(
            "The database URL cannot be read.", remedy="Example: sqlite:////var/lib/mongars/mongars.db"
        ) from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            # Each thread would see an empty database of its own.
            raise SettingsError("A SQLite database in memory cannot be shared.", remedy="Name a file.")
        return parsed
    if backend == "postgresql":
        if importlib.util.find_spec("psycopg") is None:
            raise SettingsError(
                "The database is PostgreSQL, but psycopg is not installed.",
                remedy="Run: pip install 'mongars[postgres]'",
            )
        return parsed.set(drivername="postgresql+psycopg")
    raise SettingsError(f"{backend} is not a supported database.", remedy="Use sqlite or postgresql.")


def _postgres_engine(url: URL) -> Engine:
    # hide_parameters: an error of the database must not carry a user's text into a log.
    return create_engine(url, hide_parameters=True, pool_pre_ping=True)


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: Any) -> None:
        # The driver would begin transactions at moments of its own choice; begin() below does it instead.
        connection.isolation_level = None
        use_write_ahead_log(connection, BUSY_TIMEOUT_S)
        for pragma in (
            "synchronous=FULL",  # a commit survives a power cut: this is where truth lives
            "secure_delete=ON",  # deleted text is overwritten with zeros
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock at once, under the busy timeout. A transaction that reads first and
        # then wants to write would fail without waiting (SQLITE_BUSY_SNAPSHOT, https://sqlite.org/rescode.html).
        options = connection.get_execution_options()
        # Inside a transaction SQLite ignores this one.
        connection.exec_driver_sql(f"PRAGMA foreign_keys={'ON' if options.get(_FOREIGN_KEYS, True) else 'OFF'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(_WRITE, False) else "BEGIN")

    return engine
