"""Adapter folders, content-addressed: `<root>/<name>/<first 12 digits of the digest>/`, immutable once written."""

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mongars.errors import AdapterRefusedError
from mongars.records import ADAPTER_KINDS, AdapterKind, AdapterRef, now
from mongars.registry.base_fit import BaseSpec
from mongars.registry.card import AdapterCard, read_card
from mongars.registry.manifest import AdapterManifest
from mongars.registry.validation import ADAPTER_FILES, check_files, validate_folder
from mongars.storage.atomic import new_folder
from mongars.storage.digests import folder_digest
from mongars.storage.lock import file_lock

NAME = re.compile(r"[a-z0-9-]{1,64}")
SHORT_DIGEST = 12
LOCK_TIMEOUT_S = 60.0
"""Longer than copying a few hundred megabytes; the system releases the lock of a process that died."""


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """An adapter folder to add to the registry.

    `folder` becomes absolute, because the registry's actor has another working directory. `metrics` are added to
    those of the card.
    """

    folder: Path
    name: str
    base: BaseSpec
    kind: AdapterKind = "encoder"
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", self.folder.absolute())


class AdapterStore:
    """Content-addressed adapter folders below `root`. Safe to use from several processes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def admit(self, request: PublishRequest) -> Iterator[AdapterRef]:
        """Validate the folder, copy it into the store and yield it as a candidate.

        An adapter that is stored already is only verified. The store stays locked until the block ends, so that
        no prune removes the files before the block has listed them in the manifest.
        Raises AdapterRefusedError; UnavailableError when the store stays locked.
        """
        check_name(request.name, request.kind)
        check_files(request.folder)
        digest = folder_digest(request.folder)  # before the checks, and again of the copy: all see the same bytes
        card = validate_folder(request.folder, request.base, request.kind)
        ref = AdapterRef(
            name=request.name,
            digest=digest,
            kind=request.kind,
            state="candidate",
            base_digest=request.base.digest,
            dataset=card.dataset_name,
            created_at=now(),
            metrics={**card.metrics, **request.metrics},
        )
        with self.exclusive():
            self._sweep(request.name)
            if self.path(ref).exists():
                self.verify(ref)
            else:
                self._copy(request.folder, ref)
            yield ref

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the store's lock, so that no other process adds or removes anything. Raises UnavailableError."""
        with file_lock(self.root / ".store.lock", LOCK_TIMEOUT_S):
            yield

    def share(self, ref: AdapterRef, manifest: AdapterManifest) -> None:
        """Make an adapter available to other machines: nothing to do here, `shared.py` uploads it."""

    def fetch(self, ref: AdapterRef, manifest: AdapterManifest) -> Path:
        """Return the folder of an adapter in `manifest`. The caller verifies its files."""
        return self.path(ref)

    def holds(self, ref: AdapterRef, manifest: AdapterManifest) -> bool:
        """Return whether the folder of an adapter exists."""
        return self.path(ref).exists()

    def remove(self, ref: AdapterRef, manifest: AdapterManifest) -> None:
        """Remove the folder of an adapter and any remains of a crash. Call it inside `exclusive`.

        The folder is renamed first, so that a partly removed one is never used.
        """
        self._sweep(ref.name)
        folder = self.path(ref)
        if not folder.is_dir():
            return
        hidden = folder.with_name(f".{folder.name}.pruned.tmp")
        folder.rename(hidden)
        shutil.rmtree(hidden)

    def path(self, ref: AdapterRef) -> Path:
        """Return the folder of an adapter, whether or not it exists."""
        return self.root / ref.name / ref.digest[:SHORT_DIGEST]

    def verify(self, ref: AdapterRef) -> None:
        """Recompute the digest over every file of the folder. Raises AdapterRefusedError when it differs."""
        folder = self.path(ref)
        if not folder.is_dir():
            raise AdapterRefusedError(f"{folder} is missing.", remedy="Restore it from a backup, or train again.")
        found = folder_digest(folder)
        if found != ref.digest:
            raise AdapterRefusedError(
                f"{folder} has the digest {found[:SHORT_DIGEST]}: its files were changed.",
                remedy="Restore it from a backup, or remove the folder and publish the adapter again.",
            )

    def card(self, ref: AdapterRef) -> AdapterCard:
        """Return the provenance of an adapter. Raises AdapterRefusedError when it cannot be read."""
        return read_card(self.path(ref))

    def _copy(self, source: Path, ref: AdapterRef) -> None:
        with new_folder(self.path(ref)) as copy:
            for name in ADAPTER_FILES:
                shutil.copyfile(source / name, copy / name)
            if folder_digest(copy) != ref.digest:
                raise AdapterRefusedError(f"{source} changed while it was copied.", remedy="Publish it again.")

    def _sweep(self, name: str) -> None:
        """Remove folders that a crash left half copied or half removed.

        The caller holds the lock, so no hidden folder belongs to a running writer.
        """
        for leftover in (self.root / name).glob(".*.tmp"):
            shutil.rmtree(leftover)


def check_name(name: str, kind: str) -> None:
    """Raise AdapterRefusedError for a name that is not `[a-z0-9-]+` of at most 64, or an unknown kind."""
    if not NAME.fullmatch(name):
        raise AdapterRefusedError(
            f"{name!r} is not a name of an adapter.", remedy="Use small letters, digits and hyphens, at most 64."
        )
    if kind not in ADAPTER_KINDS:
        raise AdapterRefusedError(f"{kind!r} is not one of {', '.join(ADAPTER_KINDS)}.")
