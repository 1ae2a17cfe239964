"""Which adapter a digest names, for who loads one outside a server.

Owns the rules of that lookup. Must not know the base's weights: a base is a digest here.
"""

from collections.abc import Collection
from pathlib import Path

from mongars.errors import AdapterRefusedError, ModelNotFoundError
from mongars.records import AdapterKind, AdapterRef, AdapterState
from mongars.registry.manifest import UNSERVABLE
from mongars.registry.registry import AdapterRegistry
from mongars.registry.store import SHORT_DIGEST


def find_adapter(
    registry: AdapterRegistry,
    digest: str,
    kind: AdapterKind = "encoder",
    *,
    base_digest: str,
    without: Collection[AdapterState] = UNSERVABLE,
) -> tuple[AdapterRef, Path]:
    """Return the adapter of a digest, or of its first 8 digits or more, and its folder, every file verified.

    Raises ModelNotFoundError when it is unknown or in a state of `without`; AdapterRefusedError when it is of
    another kind, was trained on another base than `base_digest`, or its files were changed.
    """
    manifest = registry.snapshot()
    ref = manifest.adapter(digest)
    named = f"The adapter {ref.name}@{ref.digest[:SHORT_DIGEST]}"
    if ref.state in without:
        raise ModelNotFoundError(
            f"{named} is {ref.state}.", remedy="See the others with: mongars adapters list", param="adapter"
        )
    if ref.kind != kind:
        raise AdapterRefusedError(f"{named} is of kind {ref.kind}, not {kind}.", param="adapter")
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
