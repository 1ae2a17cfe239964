"""The adapter registry: every change to the manifest, from any process.

A change writes the files first and then swaps the manifest, if it is still the one that was read. This comparison
is needed even with one actor, because a network partition can leave two alive. The actor wraps this class; the
command line uses it directly.
"""

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mongars import telemetry
from mongars.errors import StaleGenerationError
from mongars.records import AdapterKind, AdapterRef, now
from mongars.registry import manifest as rules
from mongars.registry.manifest import KEPT_STATES, AdapterManifest, prunable
from mongars.registry.manifest_store import LocalManifest, ManifestStore
from mongars.registry.objects import Objects
from mongars.registry.shared import SharedAdapterStore, SharedManifest
from mongars.registry.store import AdapterStore, PublishRequest

ATTEMPTS = 100
"""A swap fails only when another writer's succeeded: so many failures in a row are a fault, not contention."""

Transition = Callable[[AdapterManifest, datetime], AdapterManifest]
_publish_duration = telemetry.meter.create_histogram(telemetry.PUBLISH_DURATION, unit="s")


@dataclass(frozen=True, slots=True)
class Publication:
    """The result of a change: the manifest's generation, the adapter, and whether anything changed."""

    generation: int
    adapter: AdapterRef
    changed: bool


class AdapterRegistry:
    """The adapters below `root` and which of them are served. Safe to use from several processes.

    With `url` (`s3://bucket/prefix`) the adapters are stored there, `root` has copies, and several machines may
    use the registry.

    Every change is idempotent, `promote` and `rollback` only with `seen`, the generation that the caller saw: a
    repeated call is then recognised, and another change in between raises StaleGenerationError. Without `seen`
    they act on the newest manifest.
    """

    def __init__(self, root: Path, url: str | None = None) -> None:
        self.address = address_of(root, url)
        self.store = open_store(root, url)
        self._manifests: ManifestStore = LocalManifest(root) if url is None else SharedManifest(Objects(url))
        self.poll_interval_s = self._manifests.poll_interval_s

    def publish(self, request: PublishRequest) -> Publication:
        """Store an adapter and serve it, in one new generation.

        Raises AdapterRefusedError for a folder that fails validation; RefusedError for a digest that was rejected
        or revoked.
        """
        return self._admit(request, rules.publish)

    def register(self, request: PublishRequest) -> Publication:
        """Store an adapter as a candidate, without serving it. Raises as `publish`."""
        return self._admit(request, rules.register)

    def promote(self, digest: str, *, seen: int | None = None) -> Publication:
        """Serve a known adapter. Raises ModelNotFoundError, RefusedError, StaleGenerationError."""

        def rule(manifest: AdapterManifest, at: datetime) -> AdapterManifest:
            if _made_already(manifest, seen, "promote", manifest.adapter(digest)):
                return manifest
            return rules.promote(manifest, digest, at)

        return self._publication(digest, rule)

    def rollback(self, kind: AdapterKind = "encoder", *, seen: int | None = None) -> Publication:
        """Serve the previous adapter again. Raises RefusedError when there is none; StaleGenerationError."""

        def rule(manifest: AdapterManifest, at: datetime) -> AdapterManifest:
            if _made_already(manifest, seen, "rollback", manifest.served(kind)):
                return manifest
            return rules.rollback(manifest, kind, at)

        before, after = self._change(rule)
        served = after.served(kind)
        assert served is not None, "a rollback serves an adapter or raises"
        return Publication(after.generation, served, changed=after is not before)

    def reject(self, digest: str, *, metrics: Mapping[str, float]) -> Publication:
        """Mark a candidate as refused by the gate, with its metrics. Raises ModelNotFoundError, RefusedError."""
        return self._publication(digest, lambda manifest, at: rules.reject(manifest, digest, at, metrics))

    def revoke(self, digest: str) -> Publication:
        """Never serve an adapter again. If it is current, the previous one or the base replaces it.

        Raises ModelNotFoundError.
        """
        return self._publication(digest, lambda manifest, at: rules.revoke(manifest, digest, at))

    def prunable(self, keep: int) -> tuple[AdapterRef, ...]:
        """Return the adapters whose folders `prune` would remove."""
        manifest = self.snapshot()
        return tuple(ref for ref in prunable(manifest, keep, now()) if self.store.holds(ref, manifest))

    def prune(self, keep: int) -> tuple[AdapterRef, ...]:
        """Remove the folders of older adapters, by the rule of `manifest.prunable`, and return these adapters.

        All are marked in one swap before any is removed, so the next prune finishes after a crash. Replicas keep
        serving them from memory. Idempotent. Raises InputError, UnavailableError.
        """

        def rule(manifest: AdapterManifest, at: datetime) -> AdapterManifest:
            for ref in prunable(manifest, keep, at):
                if ref.state not in KEPT_STATES:
                    manifest = rules.prune(manifest, ref.digest, at)
            return manifest

        with self.store.exclusive():  # a publish of the same bytes happens before the mark or after the removal
            _, manifest = self._change(rule)
            marked = (ref for ref in prunable(manifest, keep, now()) if ref.state in ("pruned", *KEPT_STATES))
            gone = tuple(ref for ref in marked if self.store.holds(ref, manifest))
            for ref in gone:
                self.store.remove(ref, manifest)
        return gone

    def snapshot(self) -> AdapterManifest:
        """Return the manifest, of generation 0 before the first change. Raises InputError when it is damaged."""
        return self._manifests.read().manifest

    def fingerprint(self) -> Hashable:
        """Return a value that is cheap to read and differs after every change of the manifest."""
        return self._manifests.fingerprint()

    def _admit(
        self, request: PublishRequest, change: Callable[[AdapterManifest, AdapterRef, datetime], AdapterManifest]
    ) -> Publication:
        started = time.monotonic()
        with self.store.admit(request) as ref:

            def rule(manifest: AdapterManifest, at: datetime) -> AdapterManifest:
                after = change(manifest, ref, at)
                self.store.share(ref, after)  # before every swap, which may follow a prune by another machine
                return after

            publication = self._publication(ref.digest, rule)
        attributes = {"kind": request.kind, "changed": publication.changed}
        _publish_duration.record(time.monotonic() - started, attributes)
        return publication

    def _publication(self, digest: str, rule: Transition) -> Publication:
        before, after = self._change(rule)
        return Publication(after.generation, after.adapter(digest), changed=after is not before)

    def _change(self, rule: Transition) -> tuple[AdapterManifest, AdapterManifest]:
        """Apply a rule to the newest manifest until the swap succeeds; return the manifest before and after."""
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
    """Return the URL of a registry, or its folder."""
    return str(root.resolve()) if url is None else url.rstrip("/")


def open_store(root: Path, url: str | None) -> AdapterStore:
    """Return the store of a registry's adapter folders."""
    return AdapterStore(root) if url is None else SharedAdapterStore(root, Objects(url))


def _made_already(
    manifest: AdapterManifest, seen: int | None, action: rules.Action, ref: AdapterRef | None
) -> bool:
    """Return whether the newest change is the caller's own, made on the generation `seen`.

    Raises StaleGenerationError when another change was made since then.
    """
    if seen is None or seen == manifest.generation:
        return False
    made = manifest.history[-1] if manifest.history else None
    if made and ref and (made.generation, made.action, made.digest) == (seen + 1, action, ref.digest):
        return True
    raise StaleGenerationError(
        f"The registry is at generation {manifest.generation}, not {seen}: it has changed since you read it.",
        remedy="List the adapters again with: mongars adapters list",
    )
