"""The registry: every change to the adapter manifest, from any process.

Owns the order of a change: files first, then the manifest, swapped only if it is still the one that was read. That
comparison is the fence, because two actors can be alive at once after a network partition. Must not know Ray or
replicas: `actor.py` wraps it, and a command line without a cluster uses it directly.
"""

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mongars import telemetry
from mongars.errors import InputError, StaleGenerationError
from mongars.records import ADAPTER_KINDS, AdapterKind, AdapterRef, now
from mongars.registry import manifest as rules
from mongars.registry.base_fit import Shapes
from mongars.registry.manifest import AdapterManifest
from mongars.registry.manifest_store import LocalManifest, ManifestStore
from mongars.registry.objects import Objects
from mongars.registry.pruning import WITHOUT_FOLDER_TOO, prunable
from mongars.registry.shared import SharedAdapterStore, SharedManifest
from mongars.registry.store import AdapterStore

ATTEMPTS = 100
"""A swap fails only when another writer's succeeded, so this many losses in a row is a fault, not contention."""

Transition = Callable[[AdapterManifest, datetime], AdapterManifest]
_publish_duration = telemetry.meter.create_histogram(telemetry.PUBLISH_DURATION, unit="s")


@dataclass(frozen=True, slots=True)
class Publication:
    """What a change came to: the manifest's generation, the adapter it was about, and whether anything changed."""

    generation: int
    adapter: AdapterRef
    changed: bool


class AdapterRegistry:
    """The adapters below `root` and which of them is served. Safe to use from several processes.

    With `url` (`s3://bucket/prefix`) they lie there, safe to use from several machines, and `root` holds copies.

    Every change is idempotent. `promote` and `rollback` are so only with `seen`, the generation that the caller
    decided upon: a repeat of the same call is then recognised, and StaleGenerationError tells that another change
    came first. Without it they act on whatever is current.
    """

    def __init__(self, root: Path, url: str | None = None) -> None:
        self.root = root
        self.address = address_of(root, url)
        self.store = open_store(root, url)
        self._manifests: ManifestStore = LocalManifest(root) if url is None else SharedManifest(Objects(url))
        self.look_every_s = self._manifests.look_every_s

    def publish(
        self,
        folder: Path,
        name: str,
        kind: AdapterKind = "encoder",
        *,
        base_digest: str,
        base_shapes: Shapes | None,
        activate: bool = True,
        metrics: Mapping[str, float] | None = None,
    ) -> Publication:
        """Accept a folder and serve it in one new generation; only register it without `activate`.

        `base_shapes` are those of the base model (read_shapes), None only where no base is at hand.
        Raises AdapterRefusedError for a folder that fails validation; RefusedError for a digest that was rejected
        or revoked.
        """
        started = time.monotonic()
        change = rules.publish if activate else rules.register
        with self.store.adding(
            folder, name, kind, base_digest=base_digest, base_shapes=base_shapes, metrics=metrics
        ) as ref:

            def rule(manifest: AdapterManifest, at: datetime) -> AdapterManifest:
                after = change(manifest, ref, at)
                self.store.share(ref, after)  # before the swap, and again for what the next attempt finds
                return after

            publication = self._publication(ref.digest, rule)
        _publish_duration.record(time.monotonic() - started, {"kind": kind, "changed": publication.changed})
        return publication

    def register(
        self,
        folder: Path,
        name: str,
        kind: AdapterKind = "encoder",
        *,
        base_digest: str,
        base_shapes: Shapes | None,
        metrics: Mapping[str, float] | None = None,
    ) -> Publication:
        """Accept a folder as a candidate that is not served. Raises as `publish`."""
        return self.publish(
            folder, name, kind, base_digest=base_digest, base_shapes=base_shapes, activate=False, metrics=metrics
        )

    def canary(self, digest: str) -> Publication:
        """Mark a candidate as canary. Raises ModelNotFoundError, RefusedError."""
        return self._publication(digest, lambda manifest, at: rules.canary(manifest, digest, at))

    def promote(self, digest: str, *, seen: int | None = None) -> Publication:
        """Serve a known adapter. Raises ModelNotFoundError, RefusedError, StaleGenerationError."""

        def rule(manifest: AdapterManifest, at: datetime) -> AdapterManifest:
            if _made_already(manifest, seen, "promote", manifest.adapter(digest)):
                return manifest
            return rules.promote(manifest, digest, at)

        return self._publication(digest, rule)

    def rollback(self, kind: AdapterKind = "encoder", *, seen: int | None = None) -> Publication:
        """Serve again what was served before. Raises RefusedError when nothing is older; StaleGenerationError."""

        def rule(manifest: AdapterManifest, at: datetime) -> AdapterManifest:
            if _made_already(manifest, seen, "rollback", manifest.served(kind)):
                return manifest
            return rules.rollback(manifest, kind, at)

        before, after = self._change(rule)
        served = after.served(kind)
        assert served is not None, "a rollback serves an adapter or raises"
        return Publication(after.generation, served, changed=after is not before)

    def reject(self, digest: str, *, metrics: Mapping[str, float] | None = None) -> Publication:
        """Mark a candidate as refused by the gate, with its numbers. Raises ModelNotFoundError, RefusedError."""
        return self._publication(digest, lambda manifest, at: rules.reject(manifest, digest, at, metrics))

    def revoke(self, digest: str) -> Publication:
        """Never serve an adapter again; if it is current, the one before it or the base is served.

        Raises ModelNotFoundError.
        """
        return self._publication(digest, lambda manifest, at: rules.revoke(manifest, digest, at))

    def prunable(self, keep: int) -> tuple[AdapterRef, ...]:
        """Return what `prune` would remove now: adapters that it would mark, and what is left of others."""
        manifest = self.snapshot()
        return tuple(ref for ref in prunable(manifest, keep, now()) if self.store.holds(ref, manifest))

    def prune(self, keep: int) -> tuple[AdapterRef, ...]:
        """Remove the folders of older adapters (`pruning.prunable` is the rule) and return those adapters.

        Marked first, all in one swap, then removed: after a crash between, the next prune removes what is left. A
        replica that serves one has it in memory. Idempotent. Raises InputError, UnavailableError.
        """

        def rule(manifest: AdapterManifest, at: datetime) -> AdapterManifest:
            for ref in prunable(manifest, keep, at):
                if ref.state not in WITHOUT_FOLDER_TOO:
                    manifest = rules.prune(manifest, ref.digest, at)
            return manifest

        with self.store.exclusive():  # a publish of the same bytes comes before the mark or after the removal
            _, manifest = self._change(rule)
            marked = (
                ref for ref in prunable(manifest, keep, now()) if ref.state in ("pruned", *WITHOUT_FOLDER_TOO)
            )
            gone = tuple(ref for ref in marked if self.store.holds(ref, manifest))
            for ref in gone:
                self.store.remove(ref, manifest)
        return gone

    def snapshot(self) -> AdapterManifest:
        """Read the manifest; generation 0 where none was written. Raises InputError for a file that is damaged."""
        return self._manifests.read().manifest

    def current(self, kind: AdapterKind = "encoder") -> AdapterRef | None:
        """Return the adapter that is served; None is the bare base."""
        if kind not in ADAPTER_KINDS:
            raise InputError(f"{kind!r} is not one of {', '.join(ADAPTER_KINDS)}.", param="kind")
        return self.snapshot().served(kind)

    def fingerprint(self) -> Hashable:
        """Return what a cheap look shows of the manifest: another value after every change."""
        return self._manifests.fingerprint()

    def _publication(self, digest: str, rule: Transition) -> Publication:
        before, after = self._change(rule)
        return Publication(after.generation, after.adapter(digest), changed=after is not before)

    def _change(self, rule: Transition) -> tuple[AdapterManifest, AdapterManifest]:
        """Apply a rule to the newest manifest until the swap holds; return the manifest before and after."""
        for _ in range(ATTEMPTS):
            seen = self._manifests.read()
            before = seen.manifest
            after = rule(before, now())
            if after is before or self._manifests.swap(seen, after):
                return before, after
        raise StaleGenerationError(
            f"{self.address} kept changing through {ATTEMPTS} attempts.", remedy="Try again."
        )


def address_of(root: Path, url: str | None) -> str:
    """Return what a registry is known by: its URL, or its folder."""
    return str(root.resolve()) if url is None else url.rstrip("/")


def open_store(root: Path, url: str | None) -> AdapterStore:
    """Return the folders of a registry's adapters."""
    return AdapterStore(root) if url is None else SharedAdapterStore(root, Objects(url))


def _made_already(
    manifest: AdapterManifest, seen: int | None, action: rules.Action, ref: AdapterRef | None
) -> bool:
    """Return whether the newest change is the one that the caller decided upon at generation `seen`.

    Raises StaleGenerationError when another change was made since then.
    """
    if seen is None or seen == manifest.generation:
        return False
    made = manifest.history[-1] if manifest.history else None
    if made and ref and (made.generation, made.action, made.digest) == (seen + 1, action, ref.digest):
        return True
    raise StaleGenerationError(
        f"The registry is at generation {manifest.generation}, not {seen} as when you looked.",
        remedy="Look again with: mongars adapters list",
    )
