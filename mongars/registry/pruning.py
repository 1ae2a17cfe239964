"""Which adapters may go: the rule of pruning, as pure functions over a manifest.

Owns what is kept. Must not know files: `registry.py` marks the adapters and the store removes their folders.
"""

from datetime import datetime, timedelta

from mongars.errors import InputError
from mongars.records import ADAPTER_KINDS, AdapterKind, AdapterRef
from mongars.registry.manifest import AdapterManifest, serving_order

YOUNG = timedelta(days=7)
"""A candidate or canary may still be under judgement: a cycle takes hours, a person's look at it perhaps days."""
WITHOUT_FOLDER_TOO = ("rejected", "revoked")
"""These are never served, so their state stays when their folder goes: a later publish must still be refused."""


def prunable(manifest: AdapterManifest, keep: int, at: datetime) -> tuple[AdapterRef, ...]:
    """Return the adapters whose folders may go, as they are in the manifest; those that were pruned already too.

    Kept of each kind: the newest `keep` that are not pruned, what is current, what `keep` rollbacks from it would
    reach, and candidates and canaries younger than YOUNG. Raises InputError for a negative `keep`.
    """
    if keep < 0:
        raise InputError(f"{keep} adapters cannot be kept.", param="keep")
    kept = {digest for kind in ADAPTER_KINDS for digest in _kept(manifest, kind, keep, at)}
    return tuple(ref for ref in manifest.adapters if ref.digest not in kept)


def _kept(manifest: AdapterManifest, kind: AdapterKind, keep: int, at: datetime) -> set[str]:
    there = [ref for ref in manifest.adapters if ref.kind == kind and ref.state != "pruned"]
    newest = sorted(there, key=lambda ref: ref.created_at, reverse=True)[:keep]
    young = [ref for ref in there if ref.state in ("candidate", "canary") and at - ref.created_at < YOUNG]
    reachable = serving_order(manifest, kind)[-keep - 1 :]  # the last one is current
    return {ref.digest for ref in (*newest, *young)} | set(reachable)
