"""Storage of the manifest with compare-and-swap: here a file, in `shared.py` an object store."""

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mongars.registry.manifest import AdapterManifest
from mongars.registry.manifest_json import parse, serialise
from mongars.storage.atomic import write_atomically
from mongars.storage.lock import file_lock

MANIFEST_FILE = "adapter_manifest.json"
LOCK_TIMEOUT_S = 30.0
"""A writer keeps the lock for one small read and write, so a longer wait means that it hangs."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A manifest as it was read. `tag` is its ETag in an object store, None on a file system."""

    manifest: AdapterManifest
    tag: str | None = None


class ManifestStore(Protocol):
    """One manifest, changed by compare-and-swap from several processes."""

    poll_interval_s: float
    """How often to check whether another process has changed the manifest."""

    def read(self) -> Stored:
        """Return the manifest, of generation 0 before the first write. Raises InputError when it is damaged."""
        ...

    def swap(self, seen: Stored, manifest: AdapterManifest) -> bool:
        """Write `manifest` if the stored one is still `seen`; return whether it was."""
        ...

    def fingerprint(self) -> Hashable:
        """Return a value that is cheap to read and differs after every change."""
        ...


class LocalManifest:
    """The manifest as a file. Writers compare its generation under a lock."""

    poll_interval_s = 0.25  # one stat() for each open poll

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = root / MANIFEST_FILE

    def read(self) -> Stored:
        try:
            data = self._file.read_bytes()
        except FileNotFoundError:
            return Stored(AdapterManifest())
        return Stored(parse(data, str(self._file)))

    def swap(self, seen: Stored, manifest: AdapterManifest) -> bool:
        with file_lock(self._root / ".manifest.lock", LOCK_TIMEOUT_S):
            if self.read().manifest.generation != seen.manifest.generation:
                return False
            for leftover in self._root.glob(
                f".{MANIFEST_FILE}.*.tmp"
            ):  # of a writer that died, as we have the lock
                leftover.unlink()
            write_atomically(self._file, serialise(manifest))
        return True

    def fingerprint(self) -> Hashable:
        """Return the file's inode, modification time and size; zeros without a file."""
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return (0, 0, 0)
        return (found.st_ino, found.st_mtime_ns, found.st_size)
