"""Adapter store, manifest and the named actor that broadcasts changes to every replica."""

from mongars.registry.base_fit import BaseSpec, read_shapes
from mongars.registry.card import AdapterCard
from mongars.registry.lookup import find_adapter, trained_on
from mongars.registry.manifest import AdapterManifest
from mongars.registry.registry import AdapterRegistry, Publication, open_store
from mongars.registry.store import AdapterStore, PublishRequest

__all__ = [
    "AdapterCard",
    "AdapterManifest",
    "AdapterRegistry",
    "AdapterStore",
    "BaseSpec",
    "Publication",
    "PublishRequest",
    "find_adapter",
    "open_store",
    "read_shapes",
    "trained_on",
]
