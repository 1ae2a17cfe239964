"""The adapter manifest: which adapters exist, which of them are served, and the history of changes.

The rules of change are pure functions from one manifest to the next. Every change raises the generation by one; a
call without effect returns the manifest that it was given.

States: candidate -> active -> retired; a rollback or a promotion makes a retired adapter active again. `rejected`
adapters failed the gate. `revoked` ones are never served again. `pruned` ones have no folder and cannot be served
until the same bytes are published again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from mongars.errors import InputError, ModelNotFoundError, RefusedError
from mongars.records import ADAPTER_KINDS, AdapterKind, AdapterRef, AdapterState

Action = Literal["register", "publish", "promote", "rollback", "reject", "revoke", "prune"]
Served = Mapping[AdapterKind, str | None]
UNSERVABLE: tuple[AdapterState, ...] = ("rejected", "revoked", "pruned")
"""States in which an adapter is never served, not even by its digest."""
KEPT_STATES: tuple[AdapterState, ...] = ("rejected", "revoked")
"""A prune leaves these states unchanged, so that a later publish of the same bytes is still refused."""
YOUNG = timedelta(days=7)
"""A candidate of this age may still be under judgement, by a self-training cycle or a person."""
MIN_PREFIX = 8
"""Shortest prefix of a digest that names an adapter: 32 bits, so that a typing error does not match another."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One change. `digest` is the adapter that changed; for a rollback, the older one that is served again."""

    generation: int
    action: Action
    digest: str
    kind: AdapterKind
    at: datetime


def _nothing_served() -> Served:
    return dict.fromkeys(ADAPTER_KINDS)


@dataclass(frozen=True, slots=True)
class AdapterManifest:
    """One generation of the registry. `current` has the served digest of each kind, None for the bare base."""

    generation: int = 0
    adapters: tuple[AdapterRef, ...] = ()
    current: Served = field(default_factory=_nothing_served)
    history: tuple[HistoryEntry, ...] = ()

    def find(self, digest: str) -> AdapterRef | None:
        """Return the adapter of a full digest, or None."""
        return next((ref for ref in self.adapters if ref.digest == digest), None)

    def adapter(self, digest: str) -> AdapterRef:
        """Return the adapter of a digest or of a unique prefix of at least MIN_PREFIX characters.

        Raises ModelNotFoundError when none or more than one matches.
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
    """Add `ref` as a candidate. A known digest changes nothing, unless it was pruned.

    Raises RefusedError when the digest is known as another kind, or is revoked.
    """
    known = _known(manifest, ref)
    if known is not None and known.state != "pruned":
        return manifest
    return _record(_with(manifest, replace(ref, state="candidate")), "register", ref, at)


def publish(manifest: AdapterManifest, ref: AdapterRef, at: datetime) -> AdapterManifest:
    """Add `ref` and serve it, in one generation. Idempotent by digest.

    A candidate becomes active, and so does a pruned adapter, whose bytes exist again. An active or retired adapter
    does not change: a repeated call must not undo the changes since the first one. `promote` serves a retired one
    again.
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


def promote(manifest: AdapterManifest, digest: str, at: datetime) -> AdapterManifest:
    """Serve a candidate or a retired adapter.

    Raises ModelNotFoundError; RefusedError when it is rejected, revoked or pruned.
    """
    ref = manifest.adapter(digest)
    if ref.state == "active":
        return manifest
    if ref.state in UNSERVABLE:
        raise _forbidden(ref, "promoted")
    return _activate(manifest, ref, "promote", at)


def rollback(manifest: AdapterManifest, kind: AdapterKind, at: datetime) -> AdapterManifest:
    """Serve the adapter before the current one again, in a new generation.

    A second rollback goes one step further back. Raises RefusedError when there is no older adapter.
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
    """Mark a candidate as refused by the gate, with the metrics of that decision.

    Raises ModelNotFoundError; RefusedError for an adapter that was served, is revoked or pruned.
    """
    ref = manifest.adapter(digest)
    if ref.state == "rejected":
        return manifest
    if ref.state != "candidate":
        raise _forbidden(ref, "rejected")
    rejected = replace(ref, state="rejected", metrics={**ref.metrics, **(metrics or {})})
    return _record(_with(manifest, rejected), "reject", ref, at)


def revoke(manifest: AdapterManifest, digest: str, at: datetime) -> AdapterManifest:
    """Never serve an adapter again. If it is current, the previous one or the bare base replaces it.

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
    """Record that the folder of a candidate or retired adapter is removed.

    Raises ModelNotFoundError; RefusedError for one that is active, rejected or revoked.
    """
    ref = manifest.adapter(digest)
    if ref.state == "pruned":
        return manifest
    if ref.state not in ("candidate", "retired"):
        raise _forbidden(ref, "pruned")
    return _record(_with(manifest, replace(ref, state="pruned")), "prune", ref, at)


def serving_order(manifest: AdapterManifest, kind: AdapterKind) -> list[str]:
    """Return the digests that rollbacks step through, oldest first. The last one is current.

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


def prunable(manifest: AdapterManifest, keep: int, at: datetime) -> tuple[AdapterRef, ...]:
    """Return the adapters whose folders may be removed, including those already pruned.

    Of each kind, these are kept: the current adapter, the `keep` newest that are not pruned, the targets of the
    next `keep` rollbacks, and candidates younger than YOUNG. Raises InputError for a negative `keep`.
    """
    if keep < 0:
        raise InputError(f"{keep} adapters cannot be kept.", param="keep")
    kept = {digest for kind in ADAPTER_KINDS for digest in _kept(manifest, kind, keep, at)}
    return tuple(ref for ref in manifest.adapters if ref.digest not in kept)


def prunings(manifest: AdapterManifest, digest: str) -> int:
    """Return how often an adapter was pruned so far."""
    return sum(entry.action == "prune" and entry.digest == digest for entry in manifest.history)


def _kept(manifest: AdapterManifest, kind: AdapterKind, keep: int, at: datetime) -> set[str]:
    stored = [ref for ref in manifest.adapters if ref.kind == kind and ref.state != "pruned"]
    newest = sorted(stored, key=lambda ref: ref.created_at, reverse=True)[:keep]
    young = [ref for ref in stored if ref.state == "candidate" and at - ref.created_at < YOUNG]
    reachable = serving_order(manifest, kind)[-keep - 1 :]  # the last one is current
    return {ref.digest for ref in (*newest, *young)} | set(reachable)


def _without(order: list[str], digest: str) -> list[str]:
    """Remove a digest, and one of two equal neighbours that this leaves (A, X, A): each rollback must change."""
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
