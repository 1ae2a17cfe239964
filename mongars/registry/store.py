"""The folders of the adapters: `<root>/<name>/<first 12 digits of the digest>/`, immutable once there.

Owns their places, their acceptance and their integrity. Must not know generations or what is served.
"""

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mongars.errors import AdapterRefusedError
from mongars.records import ADAPTER_KINDS, AdapterKind, AdapterRef, now
from mongars.registry.base_fit import Shapes
from mongars.registry.card import AdapterCard, read_card
from mongars.registry.manifest import AdapterManifest
from mongars.registry.validation import ADAPTER_FILES, check_files, validate_folder
from mongars.storage.atomic import new_folder
from mongars.storage.digests import folder_digest
from mongars.storage.lock import held

NAME = re.compile(r"[a-z0-9-]{1,64}")
SHORT_DIGEST = 12
LOCK_TIMEOUT_S = 60.0
"""Longer than a copy of a few hundred megabytes takes; a holder that died has released the lock already."""


class AdapterStore:
    """Content-addressed adapter folders below `root`. Safe to use from several processes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def adding(
        self,
        folder: Path,
        name: str,
        kind: AdapterKind = "encoder",
        *,
        base_digest: str,
        base_shapes: Shapes | None,
        metrics: Mapping[str, float] | None = None,
    ) -> Iterator[AdapterRef]:
        """Validate a copy of `folder` and keep it; a folder that is there already is verified and kept.

        Pruning is kept out until the block ends, so that what the block adds to the manifest has its files.
        `base_shapes` are those of the base model (read_shapes), None only where no base is at hand.
        `metrics` are added to those of the card. The state of the returned ref is `candidate`.
        Raises AdapterRefusedError, which says what was found; UnavailableError when the store stays locked.
        """
        check_name(name, kind)
        check_files(folder)
        digest = folder_digest(folder)  # taken before the checks and again of the copy: all three see one content
        card = validate_folder(folder, base_digest, kind, base_shapes=base_shapes)
        ref = AdapterRef(
            name=name,
            digest=digest,
            kind=kind,
            state="candidate",
            base_digest=base_digest,
            dataset=card.dataset_name,
            created_at=now(),
            metrics={**card.metrics, **(metrics or {})},
        )
        with self.exclusive():
            self._sweep(name)
            if self.path(ref).exists():
                self.verify(ref)
            else:
                self._copy(folder, ref)
            yield ref

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the store's lock: nothing is added or removed meanwhile. Raises UnavailableError."""
        with held(self.root / ".store.lock", LOCK_TIMEOUT_S):
            yield

    def share(self, ref: AdapterRef, manifest: AdapterManifest) -> None:
        """Make an adapter known to the other machines: here by lying in the folder (`shared.py` uploads it)."""

    def fetch(self, ref: AdapterRef, manifest: AdapterManifest) -> Path:
        """Return the folder of an adapter that `manifest` lists; whoever loads it checks it."""
        return self.path(ref)

    def holds(self, ref: AdapterRef, manifest: AdapterManifest) -> bool:
        """Return whether the folder of an adapter is there."""
        return self.path(ref).exists()

    def remove(self, ref: AdapterRef, manifest: AdapterManifest) -> None:
        """Remove the folder of an adapter, and what a crash left of one.

        The caller holds `exclusive`. The folder is hidden first, so that half of one is never taken for a whole.
        """
        self._sweep(ref.name)
        folder = self.path(ref)
        if not folder.is_dir():
            return
        hidden = folder.with_name(f".{folder.name}.pruned.tmp")
        folder.rename(hidden)
        shutil.rmtree(hidden)

    def path(self, ref: AdapterRef) -> Path:
        """Return the folder of an adapter; whether it is there is not checked."""
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
                raise AdapterRefusedError(f"{source} was changed while it was read.", remedy="Publish it again.")

    def _sweep(self, name: str) -> None:
        """Remove what a crash left half copied or half removed.

        The lock is held, so nothing hidden belongs to a living writer.
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
