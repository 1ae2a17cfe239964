"""Looks up adapters outside a server: by digest, and by the dataset versions that they learned from."""

from collections.abc import Collection
from pathlib import Path

from mongars.errors import AdapterRefusedError, ModelNotFoundError
from mongars.records import AdapterRef, AdapterState
from mongars.registry.manifest import UNSERVABLE
from mongars.registry.registry import AdapterRegistry
from mongars.registry.store import SHORT_DIGEST


def find_adapter(
    registry: AdapterRegistry,
    digest: str,
    *,
    base_digest: str,
    without: Collection[AdapterState] = UNSERVABLE,
) -> tuple[AdapterRef, Path]:
    """Return an encoder adapter by its digest or a prefix of it, and its folder, after verifying the files.

    Raises ModelNotFoundError for an unknown adapter or one in a state of `without`; AdapterRefusedError for a chat
    adapter, another base than `base_digest`, or changed files.
    """
    manifest = registry.snapshot()
    ref = manifest.adapter(digest)
    named = f"The adapter {ref.name}@{ref.digest[:SHORT_DIGEST]}"
    if ref.state in without:
        raise ModelNotFoundError(
            f"{named} is {ref.state}.", remedy="See the others with: mongars adapters list", param="adapter"
        )
    if ref.kind != "encoder":
        raise AdapterRefusedError(f"{named} is of kind {ref.kind}, not encoder.", param="adapter")
    if ref.base_digest != base_digest:
        raise AdapterRefusedError(
            f"{named} was trained on the base {ref.base_digest[:SHORT_DIGEST]}, "
            f"not on {base_digest[:SHORT_DIGEST]}.",
            remedy="Give the base that it was trained on with --base.",
            param="adapter",
        )
    folder = registry.store.fetch(ref, manifest)
    registry.store.verify(ref)
    return ref, folder


def trained_on(registry: AdapterRegistry, datasets: Collection[str]) -> tuple[AdapterRef, ...]:
    """Return the adapters, not yet pruned, that learned from one of `datasets` (`name@version`).

    An adapter also learned from the datasets of its `init_from` adapter. This chain ends at a pruned one, whose
    card is gone. Every adapter is fetched for its card. Raises AdapterRefusedError for a card that cannot be read.
    """
    manifest = registry.snapshot()
    stored = [ref for ref in manifest.adapters if registry.store.holds(ref, manifest)]
    parents = {}
    for ref in stored:
        registry.store.fetch(ref, manifest)
        parents[ref.digest] = registry.store.card(ref).init_from
    found = {ref.digest for ref in manifest.adapters if ref.dataset in datasets}
    while more := {digest for digest, parent in parents.items() if parent in found} - found:
        found |= more
    return tuple(ref for ref in stored if ref.digest in found)
