"""A cache in tiers: a bounded dictionary in the process, and a small SQLite file that outlives it.

Values are bytes. Entries belong to namespaces, one a user, which can be dropped as a whole. Losing the file costs
time and nothing else.
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
EVICTED_AT_ONCE = 0.1  # share of a full file; evicting less would make every later put evict


class CacheTier(Protocol):
    """One place for entries. `put` and `drop_namespace` return how many entries they removed."""

    name: str

    def get(self, namespace: str, key: str) -> bytes | None:
        """Return the value, or None when it is absent or too old."""

    def put(self, namespace: str, key: str, value: bytes) -> int:
        """Store the value; returns how many others were evicted."""

    def drop_namespace(self, namespace: str) -> int:
        """Remove every entry of the namespace."""


class TieredCache:
    """Looks into its tiers in order, fastest first, and copies a hit to the faster ones. Safe between threads."""

    def __init__(self, tiers: Sequence[CacheTier], *, meter: Meter = telemetry.meter) -> None:
        """Count hits, misses and evictions on `meter`, with the attribute `tier`."""
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
                for faster in self._tiers[:depth]:
                    self._put(faster, namespace, key, value)
                return value
            self._misses.add(1, {"tier": tier.name})
        return None

    def put(self, namespace: str, key: str, value: bytes) -> None:
        """Store the value in every tier."""
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
    """Counts evictions; an expired entry is none."""

    evicted = 0

    def popitem(self) -> tuple[tuple[str, str], bytes]:
        self.evicted += 1
        return super().popitem()


class MemoryTier:
    """Entries in the process: evicts the least recently used first, and none is older than `ttl_s`."""

    name = "memory"

    def __init__(
        self,
        *,
        max_bytes: int = MEMORY_BYTES,
        ttl_s: float = DAY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Limit the values to `max_bytes`."""
        self._entries = _CountingCache(max_bytes, ttl_s, timer=clock, getsizeof=len)
        self._lock = threading.Lock()

    def get(self, namespace: str, key: str) -> bytes | None:
        """Return the value, or None."""
        with self._lock:
            return self._entries.get((namespace, key))

    def put(self, namespace: str, key: str, value: bytes) -> int:
        """Store the value unless it is larger than the tier; returns how many others were evicted."""
        with self._lock:
            if len(value) > self._entries.maxsize:
                return 0
            before = self._entries.evicted
            self._entries[namespace, key] = value
            return self._entries.evicted - before

    def drop_namespace(self, namespace: str) -> int:
        """Remove every entry of the namespace."""
        with self._lock:
            dropped = [entry for entry in self._entries if entry[0] == namespace]
            for entry in dropped:
                del self._entries[entry]
            return len(dropped)


class FileTier:
    """Entries in a SQLite file that processes may share; dropped ones are overwritten on the disk."""

    name = "file"

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = FILE_BYTES,
        ttl_s: float = 7 * DAY_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open or create the file. Raises UnavailableError when it is damaged or cannot be written."""
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
        """Store the value; when the file is full, evict the least recently used ones. Returns how many."""
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
        """Take the lock, and turn an error of the file into one that says what to do."""
        try:
            with self._lock:
                yield
        except sqlite3.DatabaseError as error:
            raise UnavailableError(
                f"The cache file failed: {error}.",
                remedy=f"Stop the program and delete {self._path}: that costs time and no data.",
            ) from error
