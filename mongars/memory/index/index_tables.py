"""The tables of the memory's index in LanceDB: made, written, compacted, rewritten without erased rows, dropped.

Owns the connection, the lock between writers and the indices of each table. Must not know what a lane or an
encoder is, nor who searches.
"""

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

COMPACT_EVERY = 50  # writes by this process to a table between its compactions, 0.2 to 0.5 s at 20,000 messages


def words_are_indexed(table: Any) -> bool:
    """Return whether a table has the index of its column `text`."""
    return any(index.columns == ["text"] for index in table.list_indices())


class IndexTables:
    """The tables at a folder or object store URL; each has a column `id`, and one of `user`. Safe between threads.

    Writers of several processes queue at a lock file in the folder. At an object store there is none: an append
    that meets an erasure may be lost there. Readers take no lock; whoever holds `writing` meets no writer.
    """

    def __init__(self, uri: str, *, language: str) -> None:
        """Open the place. `language` chooses the stemmer and the stop words of columns of text."""
        self.writing: AbstractContextManager[Any] = threading.RLock()
        if "://" not in uri:
            private_folder(Path(uri))
            self.writing = FileLock(Path(uri) / "writing.lock", poll_interval=0.005)
        # Loaded here: a process that only imports this module may fork, which LanceDB's threads do not survive.
        import lancedb
        from lancedb.index import FTS

        # Stemming and stop words lift turn recall@10 by .07 on long conversations, measured with LanceDB.
        self._full_text = FTS(language=language, stem=True, remove_stop_words=True, ascii_folding=True)
        self._db = lancedb.connect(uri)
        self._writes: Counter[str] = Counter()

    def names(self) -> list[str]:
        """Return the names of all tables, and of those that are being made or of which a crash left a part."""
        return list(self._db.list_tables().tables)

    def opened(self, name: str) -> Any | None:
        """Return a table at its newest version, at which it stays; None when it is not there, or not whole yet."""
        try:
            return self._db.open_table(name)
        except ValueError as error:  # LanceDB's word for it, and for much else
            if "was not found" not in str(error):
                raise
            return None

    def ensured(self, name: str, schema: pa.Schema) -> Any:
        """Return a table as `opened` does, made where it is missing; `text` in it is indexed by its words."""
        if (table := self.opened(name)) is not None:
            return table
        with self.writing:
            if (table := self.opened(name)) is None:
                table = self._db.create_table(name, schema=schema)
                self._build_indices(table)
                table = self._db.open_table(name)
            return table

    def with_words_indexed(self, name: str) -> Any:
        """Return a table of texts with its indices, when whoever just wrote it has built them.

        Where a crash came between, they are built here.
        """
        with self.writing:
            table = self._db.open_table(name)
            if not words_are_indexed(table):
                self._build_indices(table)
                table = self._db.open_table(name)
            return table

    def insert(self, name: str, rows: pa.Table) -> None:
        """Add the rows whose id the table lacks; it is made where it is missing."""
        if not rows.num_rows:
            return
        with self.writing:
            table = self.ensured(name, rows.schema)
            table.merge_insert("id").when_not_matched_insert_all().execute(rows)
            self._writes[name] += 1
            if self._writes[name] % COMPACT_EVERY == 0:
                table.optimize()

    def remove(self, condition: str) -> dict[str, int]:
        """Take the rows of a condition off the disk, in every table; returns how many each held.

        What a crash left of a table goes as well: nobody can tell whose rows are in it.
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
        """Drop tables, with what interrupted writes left of them."""
        with self.writing:
            for name in names:
                self._db.drop_table(name)
                del self._writes[name]

    def written_at(self, name: str) -> datetime:
        """Return when a table was last written, compacted, or rewritten; long ago, when it is not whole."""
        table = self.opened(name)
        versions = table.list_versions() if table is not None else []
        return max((version["timestamp"] for version in versions), default=datetime.min)

    def _rewrite_without(self, table: Any, condition: str) -> None:
        """Write the table again without some rows, then remove every older version of it.

        `delete` alone marks rows, and `optimize` rewrites a file only when a tenth of it is marked (Lance's
        materialize_deletions_threshold) or a neighbour is to be merged: the bytes of a single erased message
        stayed in the data file. The full-text index is built anew for the same reason: it holds the words.
        """
        name, schema = table.name, table.schema
        survivors = table.search().where(f"NOT ({condition})").to_batches()
        table = self._db.create_table(name, data=survivors, schema=schema, mode="overwrite")
        self._build_indices(table)
        # Not 0, which warns: the replaced version is older than a millisecond, because it was just rewritten.
        table.optimize(cleanup_older_than=timedelta(milliseconds=1))
        if len(table.list_versions()) != 1:
            raise UnavailableError(
                f"An older version of {name} is still on the disk.",
                remedy="Repeat it. Or stop the server, remove the index and start again: it is filled anew.",
            )

    def _build_indices(self, table: Any) -> None:
        from lancedb.index import BTree

        # With both B-trees a filtered vector search over 50,000 rows took 20 ms in place of 100.
        for column in ("id", "user"):
            table.create_index(column, config=BTree())
        if "text" in table.schema.names:
            table.create_index("text", config=self._full_text)
