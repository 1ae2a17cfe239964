"""The adapter manifest: which adapters exist, which one is served, and how that came to be.

Owns the records and the rules of change, as pure functions from one manifest to the next. Must not know files,
locks or Ray: `manifest_json.py` gives the file's form, `registry.py` reads and writes it.

States: candidate -> canary -> active -> retired; `rejected` failed the gate; `revoked` is never served again.
`pruned` has no folder any more and cannot be served until the same bytes are published again.
A retired adapter becomes active again by a rollback or a promotion. Every change raises the generation by one;
a call that would change nothing returns the very manifest that it was given.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from mongars.errors import ModelNotFoundError, RefusedError
from mongars.records import ADAPTER_KINDS, AdapterKind, AdapterRef, AdapterState

Action = Literal["register", "publish", "canary", "promote", "rollback", "reject", "revoke", "prune"]
Served = Mapping[AdapterKind, str | None]
UNSERVABLE: tuple[AdapterState, ...] = ("rejected", "revoked", "pruned")
"""States in which an adapter is not served, by whatever name it is asked for."""
MIN_PREFIX = 8
"""Shortest digest prefix that names an adapter: 32 bits, so that a typing error does not hit another one."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One change. `digest` is the adapter it was about; for a rollback, the older one that is served again."""

    generation: int
    action: Action
    digest: str
    kind: AdapterKind
    at: datetime


def _nothing_served() -> Served:
    return dict.fromkeys(ADAPTER_KINDS)


@dataclass(frozen=True, slots=True)
class AdapterManifest:
    """One generation of the registry. `current` gives the served digest of each kind, None for the bare base."""

    generation: int = 0
    adapters: tuple[AdapterRef, ...] = ()
    current: Served = field(default_factory=_nothing_served)
    history: tuple[HistoryEntry, ...] = ()

    def find(self, digest: str) -> AdapterRef | None:
        """Return the adapter of a full digest, or None."""
        return next((ref for ref in self.adapters if ref.digest == digest), None)

    def adapter(self, digest: str) -> AdapterRef:
        """Return the adapter of a digest, or of a prefix of at least 8 characters that only one has.

        Raises ModelNotFoundError when there is none, or more than one.
        """
        prefix = len(digest) >= MIN_PREFIX
        found = [r for r in self.adapters if r.digest == digest or (prefix and r.digest.startswith(digest))]
        if len(found) != 1:
            raise ModelNotFoundError(
                f"{'More than one' if found else 'No'} adapter has the digest {digest}.",
                remedy="List them with: mongars adapters list",
                param="digest",
            )
        return found[0]

    def served(self, kind: AdapterKind) -> AdapterRef | None:
        """Return the adapter that is served for `kind`; None is the bare base."""
        digest = self.current[kind]
        return None if digest is None else self.find(digest)


def register(manifest: AdapterManifest, ref: AdapterRef, at: datetime) -> AdapterManifest:
    """Add `ref` as a candidate; a digest that is known already changes nothing, unless it was pruned.

    Raises RefusedError when the digest is known as another kind, or is revoked.
    """
    known = _known(manifest, ref)
    if known is not None and known.state != "pruned":
        return manifest
    return _record(_with(manifest, replace(ref, state="candidate")), "register", ref, at)


def publish(manifest: AdapterManifest, ref: AdapterRef, at: datetime) -> AdapterManifest:
    """Add `ref` and serve it, in one generation. Idempotent by digest.

    A candidate or canary becomes active, and so does a pruned one, whose bytes are there again. An active or
    retired adapter was published before: nothing changes, so that a call that arrives twice does not undo what
    came between (`promote` serves a retired one again).
    Raises RefusedError when the digest is known as another kind, or is rejected or revoked.
    """
    known = _known(manifest, ref)
    if known is not None and known.state in ("active", "retired"):
        return manifest
    if known is not None and known.state == "rejected":
        raise _forbidden(known, "published")
    served = (
        ref
        if known is None or known.state == "pruned"
        else replace(known, metrics={**known.metrics, **ref.metrics})
    )
    return _activate(manifest, served, "publish", at)


def canary(manifest: AdapterManifest, digest: str, at: datetime) -> AdapterManifest:
    """Mark a candidate as canary. Raises ModelNotFoundError, or RefusedError for any later state."""
    ref = manifest.adapter(digest)
    if ref.state == "canary":
        return manifest
    if ref.state != "candidate":
        raise _forbidden(ref, "a canary")
    return _record(_with(manifest, replace(ref, state="canary")), "canary", ref, at)


def promote(manifest: AdapterManifest, digest: str, at: datetime) -> AdapterManifest:
    """Serve a candidate, canary or retired adapter.

    Raises ModelNotFoundError; RefusedError when it is rejected, revoked or pruned.
    """
    ref = manifest.adapter(digest)
    if ref.state == "active":
        return manifest
    if ref.state in UNSERVABLE:
        raise _forbidden(ref, "promoted")
    return _activate(manifest, ref, "promote", at)


def rollback(manifest: AdapterManifest, kind: AdapterKind, at: datetime) -> AdapterManifest:
    """Serve again what was served before the current adapter, under a newer generation.

    A second rollback goes one further back. Raises RefusedError when there is nothing older.
    """
    older = _served_before(manifest, kind)
    if older is None:
        raise RefusedError(
            f"No older {kind} adapter is left to roll back to.",
            remedy="To serve the bare base model, revoke the current adapter: mongars adapters revoke DIGEST",
        )
    return _activate(manifest, older, "rollback", at)


def reject(
    manifest: AdapterManifest, digest: str, at: datetime, metrics: Mapping[str, float] | None = None
) -> AdapterManifest:
    """Mark a candidate or canary as refused by the gate, with the numbers that refused it.

    Raises ModelNotFoundError; RefusedError for an adapter that was served, is revoked or pruned.
    """
    ref = manifest.adapter(digest)
    if ref.state == "rejected":
        return manifest
    if ref.state not in ("candidate", "canary"):
        raise _forbidden(ref, "rejected")
    rejected = replace(ref, state="rejected", metrics={**ref.metrics, **(metrics or {})})
    return _record(_with(manifest, rejected), "reject", ref, at)


def revoke(manifest: AdapterManifest, digest: str, at: datetime) -> AdapterManifest:
    """Never serve an adapter again; if it is current, the one before it takes its place, or the bare base.

    Raises ModelNotFoundError.
    """
    ref = manifest.adapter(digest)
    if ref.state == "revoked":
        return manifest
    older = _served_before(manifest, ref.kind) if ref.state == "active" else None
    changed = _with(manifest, replace(ref, state="revoked"))
    if ref.state == "active":
        if older is not None:
            changed = _with(changed, replace(older, state="active"))
        changed = replace(changed, current={**manifest.current, ref.kind: older.digest if older else None})
    return _record(changed, "revoke", ref, at)


def prune(manifest: AdapterManifest, digest: str, at: datetime) -> AdapterManifest:
    """Note that the folder of a candidate, canary or retired adapter is removed.

    Raises ModelNotFoundError; RefusedError for one that is active, rejected or revoked.
    """
    ref = manifest.adapter(digest)
    if ref.state == "pruned":
        return manifest
    if ref.state not in ("candidate", "canary", "retired"):
        raise _forbidden(ref, "pruned")
    return _record(_with(manifest, replace(ref, state="pruned")), "prune", ref, at)


def serving_order(manifest: AdapterManifest, kind: AdapterKind) -> list[str]:
    """Return the digests that rollbacks walk through, oldest first; the last one is current.

    Replays the history: publish and promote push, rollback pops, revoke and prune remove.
    """
    order: list[str] = []
    for entry in manifest.history:
        if entry.kind != kind:
            continue
        if entry.action in ("publish", "promote"):
            order.append(entry.digest)
        elif entry.action == "rollback":
            while order[-1] != entry.digest:
                order.pop()
        elif entry.action in ("revoke", "prune"):
            order = _without(order, entry.digest)
    return order


def prunings(manifest: AdapterManifest, digest: str) -> int:
    """Return how often an adapter was pruned so far."""
    return sum(entry.action == "prune" and entry.digest == digest for entry in manifest.history)


def _without(order: list[str], digest: str) -> list[str]:
    """Remove a digest; neighbours that become equal (A, X, A) fold into one, so a rollback never stands still."""
    kept: list[str] = []
    for other in order:
        if other != digest and kept[-1:] != [other]:
            kept.append(other)
    return kept


def _served_before(manifest: AdapterManifest, kind: AdapterKind) -> AdapterRef | None:
    order = serving_order(manifest, kind)
    return manifest.find(order[-2]) if len(order) > 1 else None


def _known(manifest: AdapterManifest, ref: AdapterRef) -> AdapterRef | None:
    known = manifest.find(ref.digest)
    if known is None:
        return None
    if known.kind != ref.kind:
        raise RefusedError(f"Adapter {ref.digest[:12]} is known as kind {known.kind}, not {ref.kind}.")
    if known.state == "revoked":
        raise _forbidden(known, "published")
    return known


def _forbidden(ref: AdapterRef, wanted: str) -> RefusedError:
    remedy = "See its history with: mongars adapters list"
    if ref.state == "pruned":
        remedy = "Its files were removed: train it again, or publish its folder again."
    return RefusedError(
        f"Adapter {ref.name}@{ref.digest[:12]} is {ref.state} and cannot be {wanted}.", remedy=remedy
    )


def _activate(manifest: AdapterManifest, ref: AdapterRef, action: Action, at: datetime) -> AdapterManifest:
    served = manifest.served(ref.kind)
    if served is not None:
        manifest = _with(manifest, replace(served, state="retired"))
    manifest = _with(manifest, replace(ref, state="active"))
    manifest = replace(manifest, current={**manifest.current, ref.kind: ref.digest})
    return _record(manifest, action, ref, at)


def _with(manifest: AdapterManifest, ref: AdapterRef) -> AdapterManifest:
    """Replace the adapter of the same digest in its place, or add it at the end."""
    if manifest.find(ref.digest) is None:
        return replace(manifest, adapters=(*manifest.adapters, ref))
    swapped = tuple(ref if other.digest == ref.digest else other for other in manifest.adapters)
    return replace(manifest, adapters=swapped)


def _record(manifest: AdapterManifest, action: Action, ref: AdapterRef, at: datetime) -> AdapterManifest:
    generation = manifest.generation + 1
    entry = HistoryEntry(generation, action, ref.digest, ref.kind, at)
    return replace(manifest, generation=generation, history=(*manifest.history, entry))
