"""The database of the conversations: SQLite in a file, or PostgreSQL by psycopg 3."""

import hashlib
import importlib.util
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    Table,
    create_engine,
    event,
    func,
    make_url,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError

from mongars.errors import SettingsError, UnavailableError
from mongars.memory.sql import migrations
from mongars.memory.sql.sqlite_waits import retry_until, use_write_ahead_log
from mongars.storage.atomic import private_folder

BUSY_TIMEOUT_S = 30.0  # how long a writer waits for another process
_SCHEMA_LOCK = 0x6D6F6E67  # "mong": the PostgreSQL advisory lock under which the schema is upgraded
# Errors of the database's state: not reachable, locked, full. SQLite's "not a database" has the base class.
_FROM_OUTSIDE = (OperationalError, DatabaseError)
_WRITE, _FOREIGN_KEYS = "mongars_write", "mongars_foreign_keys"  # execution options of a transaction


class Database:
    """An engine and its transactions. Safe to share between threads."""

    def __init__(self, url: str) -> None:
        """Prepare the engine without opening it. Raises SettingsError for a URL that cannot be used."""
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
            if type(error) not in _FROM_OUTSIDE:  # a violated constraint is our own fault
                raise
            raise UnavailableError(
                f"The database of the conversations failed ({type(error.orig).__name__}).",
                remedy="Check that MONGARS_DATABASE_URL names a running database that has room on its disk.",
            ) from error

    def insert_if_absent(
        self, connection: Connection, table: Table, row: Mapping[str, Any], *, returning: ColumnElement[Any]
    ) -> bool:
        """Add a row unless its key exists; return whether it was added. `returning` is a column of it."""
        dialect = sqlite if self.is_sqlite else postgresql
        statement = dialect.insert(table).values(row).on_conflict_do_nothing()
        # rowcount would be -1 with psycopg.
        return connection.scalar(statement.returning(returning)) is not None

    def lock_user(self, connection: Connection, user: str) -> None:
        """Let other writers of this user wait until the transaction ends, as all writers of a SQLite file do.

        Without it, PostgreSQL's erasure would miss a conversation that another transaction is about to commit.
        """
        if not self.is_sqlite:
            key = int.from_bytes(hashlib.sha256(user.encode()).digest()[:8], signed=True)
            connection.execute(select(func.pg_advisory_xact_lock(key)))

    def scrub(self) -> None:
        """Erase deleted text from SQLite's write-ahead log; `secure_delete` has overwritten it in the file.

        Does nothing on PostgreSQL, where the server's autovacuum and its log decide. Raises UnavailableError when
        a reader kept the log in use for longer than the busy timeout.
        """
        if not self.is_sqlite:
            return
        # The busy timeout does not cover another connection that truncates the log.
        if not retry_until(self._truncate_log, BUSY_TIMEOUT_S):
            raise UnavailableError(
                "The rows are deleted, but a long read keeps the database's log in use.",
                remedy="End the program that reads it; the next deletion or checkpoint truncates the log.",
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
            # Each thread would get its own empty database.
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
    # hide_parameters keeps users' text out of error messages, and so out of logs.
    return create_engine(url, hide_parameters=True, pool_pre_ping=True)


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: Any) -> None:
        # The driver would begin transactions by its own rules; `begin` below does it instead.
        connection.isolation_level = None
        use_write_ahead_log(connection, BUSY_TIMEOUT_S)
        for pragma in (
            "synchronous=FULL",  # a commit survives a power cut
            "secure_delete=ON",  # deleted text is overwritten with zeros
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        # Before the transaction, inside which SQLite ignores it.
        connection.exec_driver_sql(f"PRAGMA foreign_keys={'ON' if options.get(_FOREIGN_KEYS, True) else 'OFF'}")
        # IMMEDIATE takes the write lock at once, under the busy timeout. A transaction that reads first and writes
        # later would fail without waiting (SQLITE_BUSY_SNAPSHOT, https://sqlite.org/rescode.html).
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(_WRITE, False) else "BEGIN")

    return engine
