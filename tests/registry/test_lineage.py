"""Which adapters learned from a dataset version."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mongars.records import AdapterRef
from mongars.registry.lineage import trained_on
from mongars.registry.registry import AdapterRegistry

BASE = "b" * 64


@pytest.fixture
def registry(tmp_path: Path) -> AdapterRegistry:
    return AdapterRegistry(tmp_path / "encoders")


@pytest.fixture
def keep(registry: AdapterRegistry, make_folder: Callable[..., Path]) -> Callable[..., AdapterRef]:
    """Return keep(seed, version, init_from) -> the adapter, trained on that version of `chats`."""

    def make(seed: int, version: str, init_from: AdapterRef | None = None) -> AdapterRef:
        dataset = {"name": "chats", "version": version, "digest": "d" * 64}
        folder = make_folder(seed, dataset=dataset, init_from=init_from.digest if init_from else None)
        return registry.register(folder, "tiny", base_digest=BASE, base_shapes=None).adapter

    return make


def test_an_adapter_learned_from_its_dataset_and_from_what_its_forebears_learned_from(
    registry: AdapterRegistry, keep: Callable[..., AdapterRef]
) -> None:
    first = keep(1, "v1")
    child = keep(2, "v2", first)
    grandchild = keep(3, "v3", child)
    stranger = keep(4, "v2")
    assert trained_on(registry, {"chats@v1"}) == (first, child, grandchild)
    assert trained_on(registry, {"chats@v2"}) == (child, grandchild, stranger)
    assert trained_on(registry, {"chats@v9"}) == ()


def test_a_pruned_adapter_is_no_longer_there_to_have_learned(
    registry: AdapterRegistry, keep: Callable[..., AdapterRef]
) -> None:
    gone = keep(1, "v1")
    child = keep(2, "v2", gone)
    registry.store.remove(gone, registry.snapshot())
    assert trained_on(registry, {"chats@v1"}) == (child,)
