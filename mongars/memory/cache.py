"""A cache in tiers: a bounded dictionary in the process, and a small SQLite file that outlives it.

Owns what is cached for how long, and its counts. Values are bytes; nothing is pickled. Must not know what the
bytes mean. Entries live in namespaces (one a user), so that everything of one user can be dropped at once.
The SQL here is the file format of one tier, not the house's truth: losing the file costs time and nothing else.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from cachetools import TTLCache
from opentelemetry.metrics import Meter

from mongars import telemetry
from mongars.errors import UnavailableError
from mongars.memory.sql.sqlite_waits import use_write_ahead_log
from mongars.storage.atomic import private_folder

DAY_S = 86_400.0
BUSY_TIMEOUT_S = 10.0
MEMORY_BYTES = 64 * 2**20  # about 60,000 vectors of 256 float32
FILE_BYTES = 512 * 2**20
EVICTED_AT_ONCE = 0.1  # share of a full file that is dropped, so that not every later put has to drop something


class CacheTier(Protocol):
    """One place to keep entries. `put` and `drop_namespace` return how many entries they removed."""

    name: str

    def get(self, namespace: str, key: str) -> bytes | None:
        """Return the value, or None when it is absent or too old."""

    def put(self, namespace: str, key: str, value: bytes) -> int:
        """Keep the value and return how many others had to go."""

    def drop_namespace(self, namespace: str) -> int:
        """Remove every entry of the namespace."""


class TieredCache:
    """Asks its tiers in order, fastest first; a hit below is copied upwards. Safe to share between threads."""

    def __init__(self, tiers: Sequence[CacheTier], *, meter: Meter = telemetry.meter) -> None:
        """Stack `tiers`. Hits, misses and evictions are counted on `meter` with the attribute `tier`."""
        self._tiers = tuple(tiers)
        self._hits = meter.create_counter(telemetry.CACHE_HITS)
        self._misses = meter.create_counter(telemetry.CACHE_MISSES)
        self._evictions = meter.create_counter(telemetry.CACHE_EVICTIONS)

    def get(self, namespace: str, key: str) -> bytes | None:
        """Return the value from the first tier that has it."""
        for depth, tier in enumerate(self._tiers):
            value = tier.get(namespace, key)
            if value is not None:
                self._hits.add(1, {"tier": tier.name})
                for above in self._tiers[:depth]:
                    self._put(above, namespace, key, value)
                return value
            self._misses.add(1, {"tier": tier.name})
        return None

    def put(self, namespace: str, key: str, value: bytes) -> None:
        """Keep the value in every tier."""
        for tier in self._tiers:
            self._put(tier, namespace, key, value)

    def drop_namespace(self, namespace: str) -> int:
        """Remove every entry of the namespace from every tier; returns how many there were."""
        return sum(tier.drop_namespace(namespace) for tier in self._tiers)

    def _put(self, tier: CacheTier, namespace: str, key: str, value: bytes) -> None:
        evicted = tier.put(namespace, key, value)
        if evicted:
            self._evictions.add(evicted, {"tier": tier.name})


class _CountingCache(TTLCache[tuple[str, str], bytes]):
    """Counts what it drops for want of room; what merely grew old is not an eviction."""

    evicted = 0

    def popitem(self) -> tuple[tuple[str, str], bytes]:
        self.evicted += 1
        return super().popitem()


class MemoryTier:
    """Least recently used entries leave first; none is older than `ttl_s`. Not shared between processes."""

    name = "memory"

    def __init__(
        self,
        *,
        max_bytes: int = MEMORY_BYTES,
        ttl_s: float = DAY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Hold at most `max_bytes` of values."""
        self._entries = _CountingCache(max_bytes, ttl_s, timer=clock, getsizeof=len)
        self._lock = threading.Lock()

    def get(self, namespace: str, key: str) -> bytes | None:
        """Return the value, or None."""
        with self._lock:
            return self._entries.get((namespace, key))

    def put(self, namespace: str, key: str, value: bytes) -> int:
        """Keep the value, unless it alone is larger than the tier; returns how many others went."""
        with self._lock:
            if len(value) > self._entries.maxsize:
                return 0
            before = self._entries.evicted
            self._entries[namespace, key] = value
            return self._entries.evicted - before

    def drop_namespace(self, namespace: str) -> int:
        """Remove every entry of the namespace."""
        with self._lock:
            theirs = [entry for entry in self._entries if entry[0] == namespace]
            for entry in theirs:
                del self._entries[entry]
            return len(theirs)


class FileTier:
    """Entries in one SQLite file that several processes may share. What was dropped is overwritten on the disk."""

    name = "file"

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = FILE_BYTES,
        ttl_s: float = 7 * DAY_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open or make the file at `path`. Raises UnavailableError when it is damaged or cannot be written."""
        self._path, self._max_bytes, self._ttl_s, self._clock = path, max_bytes, ttl_s, clock
        self._lock = threading.Lock()
        private_folder(path.parent)
        with self._translated():
            self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
            use_write_ahead_log(self._db, BUSY_TIMEOUT_S)
            self._db.executescript(
                """
                PRAGMA synchronous=OFF;  -- a cache may lose its last entries in a power cut
                PRAGMA secure_delete=ON;
                CREATE TABLE IF NOT EXISTS entries (
                    namespace TEXT, key TEXT, value BLOB NOT NULL, expires_at REAL NOT NULL, used_at REAL NOT NULL,
                    PRIMARY KEY (namespace, key)
                ) WITHOUT ROWID;
                CREATE INDEX IF NOT EXISTS entries_by_use ON entries (used_at);
                """
            )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def get(self, namespace: str, key: str) -> bytes | None:
        """Return the value, or None; a hit counts as a use."""
        now = self._clock()
        with self._translated():
            row = self._db.execute(
                "UPDATE entries SET used_at = ? WHERE namespace = ? AND key = ? AND expires_at > ? "
                "RETURNING value",
                (now, namespace, key, now),
            ).fetchone()
        return row[0] if row else None

    def put(self, namespace: str, key: str, value: bytes) -> int:
        """Keep the value; when the file is full, the entries unused for longest go. Returns how many."""
        now = self._clock()
        with self._translated():
            self._db.execute(
                "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)",
                (namespace, key, value, now + self._ttl_s, now),
            )
            return self._evict(now) if self._used_bytes() > self._max_bytes else 0

    def drop_namespace(self, namespace: str) -> int:
        """Remove every entry of the namespace, from the file and from its log."""
        with self._translated():
            removed = self._db.execute("DELETE FROM entries WHERE namespace = ?", (namespace,)).rowcount
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return removed

    def _used_bytes(self) -> int:
        pages, free, size = (
            int(self._db.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def _evict(self, now: float) -> int:
        expired = self._db.execute("DELETE FROM entries WHERE expires_at <= ?", (now,)).rowcount
        if expired and self._used_bytes() <= self._max_bytes:
            return 0
        return self._db.execute(
            "DELETE FROM entries WHERE (namespace, key) IN (SELECT namespace, key FROM entries "
            "ORDER BY used_at LIMIT (SELECT max(1, CAST(count(*) * ? AS INTEGER)) FROM entries))",
            (EVICTED_AT_ONCE,),
        ).rowcount

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Hold the lock, and turn a failing file into an error that says what to do."""
        try:
            with self._lock:
                yield
        except sqlite3.DatabaseError as error:
            raise UnavailableError(
                f"The cache file failed: {error}.",
                remedy=f"Stop the program and delete {self._path}: only time is lost by it.",
            ) from error
