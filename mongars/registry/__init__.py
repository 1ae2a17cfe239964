"""Adapters as content-addressed folders, their manifest, and the named actor that tells every replica."""

from mongars.registry.base_fit import Shapes, read_shapes
from mongars.registry.card import AdapterCard
from mongars.registry.lookup import find_adapter
from mongars.registry.manifest import AdapterManifest, HistoryEntry
from mongars.registry.registry import AdapterRegistry, Publication, open_store
from mongars.registry.store import AdapterStore

__all__ = [
    "AdapterCard",
    "AdapterManifest",
    "AdapterRegistry",
    "AdapterStore",
    "HistoryEntry",
    "Publication",
    "Shapes",
    "find_adapter",
    "open_store",
    "read_shapes",
]
