"""The tables of the memory's index in LanceDB, the lock between their writers, and erasure from the disk."""

import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from filelock import FileLock

from mongars.errors import UnavailableError
from mongars.storage.atomic import private_folder

COMPACT_EVERY = 50  # writes by this process to a table between its compactions


def words_are_indexed(table: Any) -> bool:
    """Return whether a table has the full-text index of its column `text`."""
    return any(index.columns == ["text"] for index in table.list_indices())


class IndexTables:
    """The tables at a folder or object store URL, each with columns `id` and `user`. Safe between threads.

    Writers take `writing`, a lock file in the folder that other processes respect; readers do not. An object store
    has no lock file: an append there may be lost to a concurrent erasure.
    """

    def __init__(self, uri: str, *, language: str) -> None:
        """Open the tables. `language` chooses the stemmer and the stop words of columns of text."""
        self.writing: AbstractContextManager[Any] = threading.RLock()
        if "://" not in uri:
            private_folder(Path(uri))
            self.writing = FileLock(Path(uri) / "writing.lock", poll_interval=0.005)
        # Imported late, because LanceDB's threads do not survive a fork.
        import lancedb
        from lancedb.index import FTS

        self._full_text = FTS(language=language, stem=True, remove_stop_words=True, ascii_folding=True)
        self._db = lancedb.connect(uri)
        self._writes: Counter[str] = Counter()

    def names(self) -> list[str]:
        """Return the names of all tables, with those that are being created or that a crash left incomplete."""
        return list(self._db.list_tables().tables)

    def opened(self, name: str) -> Any | None:
        """Return a snapshot of a table at its newest version; None when it is missing or incomplete."""
        try:
            return self._db.open_table(name)
        except ValueError as error:  # LanceDB raises it for other reasons too
            if "was not found" not in str(error):
                raise
            return None

    def ensured(self, name: str, schema: pa.Schema) -> Any:
        """Return a table as `opened` does; a missing one is created, with its indices."""
        if (table := self.opened(name)) is not None:
            return table
        with self.writing:
            if (table := self.opened(name)) is None:
                table = self._db.create_table(name, schema=schema)
                self._build_indices(table)
                table = self._db.open_table(name)
            return table

    def with_words_indexed(self, name: str) -> Any:
        """Wait for the writer that creates a table to build its indices, and return the table.

        If a crash kept it from that, they are built here.
        """
        with self.writing:
            table = self._db.open_table(name)
            if not words_are_indexed(table):
                self._build_indices(table)
                table = self._db.open_table(name)
            return table

    def insert(self, name: str, rows: pa.Table) -> None:
        """Add the rows whose id the table lacks; a missing table is created."""
        if not rows.num_rows:
            return
        with self.writing:
            table = self.ensured(name, rows.schema)
            table.merge_insert("id").when_not_matched_insert_all().execute(rows)
            self._writes[name] += 1
            if self._writes[name] % COMPACT_EVERY == 0:
                table.optimize()

    def remove(self, condition: str) -> dict[str, int]:
        """Erase the rows that match a condition from every table on the disk; returns how many each had.

        Incomplete tables that a crash left are dropped: nothing says whose rows they have.
        """
        counts: dict[str, int] = {}
        with self.writing:
            for name in self.names():
                if (table := self.opened(name)) is None:
                    self.drop([name])
                    continue
                counts[name] = int(table.count_rows(condition))
                if counts[name]:
                    self._rewrite_without(table, condition)
        return counts

    def drop(self, names: Iterable[str]) -> None:
        """Drop tables, complete or not."""
        with self.writing:
            for name in names:
                self._db.drop_table(name)
                del self._writes[name]

    def written_at(self, name: str) -> datetime:
        """Return when a table was last written, compacted or rewritten; an incomplete one counts as the oldest."""
        table = self.opened(name)
        versions = table.list_versions() if table is not None else []
        return max((version["timestamp"] for version in versions), default=datetime.min)

    def _rewrite_without(self, table: Any, condition: str) -> None:
        """Rewrite the table without some rows, then remove every older version of it.

        `delete` only marks rows, and `optimize` does not rewrite a file of which less than a tenth is marked
        (Lance's materialize_deletions_threshold): the bytes of a single message would stay. The full-text index
        has the words too, and is rebuilt.
        """
        name, schema = table.name, table.schema
        survivors = table.search().where(f"NOT ({condition})").to_batches()
        table = self._db.create_table(name, data=survivors, schema=schema, mode="overwrite")
        self._build_indices(table)
        # Not 0, which warns. The replaced version is older than a millisecond, because the rewrite took longer.
        table.optimize(cleanup_older_than=timedelta(milliseconds=1))
        if len(table.list_versions()) != 1:
            raise UnavailableError(
                f"An older version of {name} is still on the disk.",
                remedy="Repeat it. Or stop the server, remove the index and start again, which fills it.",
            )

    def _build_indices(self, table: Any) -> None:
        from lancedb.index import BTree

        # A filtered vector search needs both B-trees to be quick.
        for column in ("id", "user"):
            table.create_index(column, config=BTree())
        if "text" in table.schema.names:
            table.create_index("text", config=self._full_text)
