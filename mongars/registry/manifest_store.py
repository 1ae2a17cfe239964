"""Where the manifest lies: read, compare and swap. Here on a file system; `shared.py` has it in an object store.

Owns the manifest's file, its lock and its atomic replacement. Must not know a rule of change: `registry.py` does.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mongars.registry.manifest import AdapterManifest
from mongars.registry.manifest_json import parse, serialise
from mongars.storage.atomic import write_atomically
from mongars.storage.lock import held

MANIFEST_FILE = "adapter_manifest.json"
LOCK_TIMEOUT_S = 30.0
"""The lock is held for one small read and write; half a minute of waiting means a holder that is stuck."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A manifest as it was read; `tag` is what the store knows it by (an ETag), None where it needs none."""

    manifest: AdapterManifest
    tag: str | None = None


class ManifestStore(Protocol):
    """One manifest, changed by compare-and-swap from several processes."""

    look_every_s: float
    """How often to look whether another process has changed it."""

    def read(self) -> Stored:
        """Return the manifest; generation 0 where none was written. Raises InputError when it is damaged."""
        ...

    def swap(self, seen: Stored, manifest: AdapterManifest) -> bool:
        """Write `manifest` if what is there is still `seen`; return whether it was."""
        ...

    def fingerprint(self) -> Hashable:
        """Return what a cheap look shows: another value after every change."""
        ...


class LocalManifest:
    """The manifest as a file: writers take turns by a lock, and the generation is compared under it."""

    look_every_s = 0.25  # one stat() for each open poll

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = root / MANIFEST_FILE

    def read(self) -> Stored:
        """As ManifestStore.read."""
        try:
            data = self._file.read_bytes()
        except FileNotFoundError:
            return Stored(AdapterManifest())
        return Stored(parse(data, str(self._file)))

    def swap(self, seen: Stored, manifest: AdapterManifest) -> bool:
        """As ManifestStore.swap."""
        with held(self._root / ".manifest.lock", LOCK_TIMEOUT_S):
            if self.read().manifest.generation != seen.manifest.generation:
                return False
            for leftover in self._root.glob(f".{MANIFEST_FILE}.*.tmp"):  # of a writer that died; we hold the lock
                leftover.unlink()
            write_atomically(self._file, serialise(manifest))
        return True

    def fingerprint(self) -> Hashable:
        """Return inode, change time in ns and bytes of the file; zeros without one."""
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return (0, 0, 0)
        return (found.st_ino, found.st_mtime_ns, found.st_size)
