"""Which adapters learned from a dataset version, themselves or through the adapter that they started from.

Owns that question. Must not know what a dataset holds.
"""

from collections.abc import Collection

from mongars.records import AdapterRef
from mongars.registry.registry import AdapterRegistry


def trained_on(registry: AdapterRegistry, datasets: Collection[str]) -> tuple[AdapterRef, ...]:
    """Return the adapters, not yet pruned, in whose lineage one of `datasets` (`name@version`) is, as listed.

    The start of one whose own start was pruned is no longer known. Every adapter is fetched for its card. Raises
    AdapterRefusedError for a card that cannot be read.
    """
    manifest = registry.snapshot()
    there = [ref for ref in manifest.adapters if registry.store.holds(ref, manifest)]
    parents = {}
    for ref in there:
        registry.store.fetch(ref, manifest)
        parents[ref.digest] = registry.store.card(ref).init_from
    found = {ref.digest for ref in manifest.adapters if ref.dataset in datasets}
    while more := {digest for digest, parent in parents.items() if parent in found} - found:
        found |= more
    return tuple(ref for ref in there if ref.digest in found)
