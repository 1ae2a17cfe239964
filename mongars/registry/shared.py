"""Adapters and their manifest in an object store, for machines without a shared folder.

The layout is `<name>/<first 12 digits>/<epoch>/<file>`. The epoch counts how often the adapter was pruned. A prune
deletes the epochs before the manifest's one, and a publish of the same bytes writes the next epoch, so neither
needs a lock across machines.
"""

from collections.abc import Hashable
from pathlib import Path

from mongars.errors import AdapterRefusedError
from mongars.records import AdapterRef
from mongars.registry.manifest import AdapterManifest, prunings
from mongars.registry.manifest_json import parse, serialise
from mongars.registry.manifest_store import MANIFEST_FILE, Stored
from mongars.registry.objects import Objects
from mongars.registry.store import SHORT_DIGEST, AdapterStore
from mongars.registry.validation import ADAPTER_FILES
from mongars.storage.atomic import new_folder
from mongars.storage.digests import folder_digest


class SharedManifest:
    """The manifest as one object. The store compares its ETag on every write."""

    poll_interval_s = 5.0  # each open poll pays for a request; changes by this process wake the polls at once

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def read(self) -> Stored:
        """Raises UnavailableError when the store cannot be reached."""
        found = self._objects.get(MANIFEST_FILE)
        if found is None:
            return Stored(AdapterManifest())
        data, tag = found
        return Stored(parse(data, f"{self._objects.url}/{MANIFEST_FILE}"), tag)

    def swap(self, seen: Stored, manifest: AdapterManifest) -> bool:
        """Decide by the stored manifest: a failed comparison may be the retry of a write that succeeded."""
        return self._objects.put_if(MANIFEST_FILE, serialise(manifest), seen.tag) or (
            self.read().manifest == manifest
        )

    def fingerprint(self) -> Hashable:
        found = self._objects.head(MANIFEST_FILE)
        return found and found[1]


class SharedAdapterStore(AdapterStore):
    """Adapter folders in an object store. `root` has copies of those that this machine has read or published."""

    def __init__(self, root: Path, objects: Objects) -> None:
        super().__init__(root)
        self._objects = objects

    def share(self, ref: AdapterRef, manifest: AdapterManifest) -> None:
        """Upload the missing files of an adapter. Call it before writing the manifest that lists the adapter."""
        for file in ADAPTER_FILES:
            data = (self.path(ref) / file).read_bytes()
            key = f"{_folder(ref, prunings(manifest, ref.digest))}/{file}"
            stored = self._objects.head(key)
            if stored is None or stored[0] != len(data):
                self._objects.put(key, data)

    def fetch(self, ref: AdapterRef, manifest: AdapterManifest) -> Path:
        """Return this machine's copy of an adapter, downloaded if it is missing or damaged.

        Raises AdapterRefusedError when the adapter is missing or damaged in the object store, UnavailableError
        when the store cannot be reached.
        """
        place = self.path(ref)
        with self.exclusive():
            if place.is_dir() and folder_digest(place) == ref.digest:
                return place
            super().remove(ref, manifest)
            with new_folder(place) as folder:
                self._download(ref, _folder(ref, prunings(manifest, ref.digest)), folder)
        return place

    def holds(self, ref: AdapterRef, manifest: AdapterManifest) -> bool:
        """Return whether `remove` would remove anything."""
        return super().holds(ref, manifest) or bool(self._removable(ref, manifest))

    def remove(self, ref: AdapterRef, manifest: AdapterManifest) -> None:
        """Delete an adapter's objects of epochs before the manifest's one, and this machine's copy."""
        self._objects.delete(self._removable(ref, manifest))
        super().remove(ref, manifest)

    def _removable(self, ref: AdapterRef, manifest: AdapterManifest) -> list[str]:
        epoch = prunings(manifest, ref.digest)
        if ref.state != "pruned":  # rejected or revoked: it cannot be published again, so its last epoch goes too
            epoch += 1
        keys = self._objects.keys(f"{ref.name}/{ref.digest[:SHORT_DIGEST]}")
        return [key for key in keys if int(key.split("/")[-2]) < epoch]

    def _download(self, ref: AdapterRef, key: str, folder: Path) -> None:
        for file in ADAPTER_FILES:
            found = self._objects.get(f"{key}/{file}")
            if found is None:
                raise AdapterRefusedError(
                    f"{self._objects.url}/{key}/{file} is missing.", remedy="Publish the adapter again."
                )
            (folder / file).write_bytes(found[0])
        if folder_digest(folder) != ref.digest:
            raise AdapterRefusedError(
                f"{self._objects.url}/{key} has another digest: its objects were changed.",
                remedy="Delete them and publish the adapter again.",
            )


def _folder(ref: AdapterRef, epoch: int) -> str:
    return f"{ref.name}/{ref.digest[:SHORT_DIGEST]}/{epoch}"
