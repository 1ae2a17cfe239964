"""Adapters are found by digest, with every reason for a refusal, and by the datasets they learned from."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mongars.errors import AdapterRefusedError, ModelNotFoundError, MongarsError
from mongars.records import AdapterKind, AdapterRef
from mongars.registry import BaseSpec, PublishRequest
from mongars.registry.lookup import find_adapter, trained_on
from mongars.registry.registry import AdapterRegistry

BASE = BaseSpec("b" * 64, {"layers.0.self_attn.q_proj.weight": (4, 4)})


@pytest.fixture
def registry(tmp_path: Path) -> AdapterRegistry:
    return AdapterRegistry(tmp_path / "encoders")


def register(registry: AdapterRegistry, folder: Path, kind: AdapterKind = "encoder") -> AdapterRef:
    return registry.register(PublishRequest(folder, "tiny", BASE, kind)).adapter


def test_a_digest_prefix_finds_an_adapter_that_is_not_current(
    registry: AdapterRegistry, make_folder: Callable[..., Path]
) -> None:
    register(registry, make_folder(1))
    ref = register(registry, make_folder(2))
    folder = registry.store.fetch(ref, registry.snapshot())
    assert find_adapter(registry, ref.digest[:8], base_digest=BASE.digest) == (ref, folder)


def test_an_unknown_digest_is_refused_with_the_remedy(registry: AdapterRegistry) -> None:
    with pytest.raises(ModelNotFoundError, match="mongars adapters list"):
        find_adapter(registry, "0" * 64, base_digest=BASE.digest)


REFUSALS = {
    "revoked": AdapterRegistry.revoke,
    "rejected": lambda registry, digest: registry.reject(digest, metrics={}),
}


@pytest.mark.parametrize("state", REFUSALS)
def test_an_adapter_that_is_never_served_is_not_found(
    registry: AdapterRegistry, make_folder: Callable[..., Path], state: str
) -> None:
    ref = register(registry, make_folder(1))
    REFUSALS[state](registry, ref.digest)
    with pytest.raises(ModelNotFoundError, match=f"tiny@{ref.digest[:12]} is {state}"):
        find_adapter(registry, ref.digest, base_digest=BASE.digest)


def test_an_adapter_whose_files_were_pruned_is_not_found(
    registry: AdapterRegistry, make_folder: Callable[..., Path]
) -> None:
    older, newer = (register(registry, make_folder(seed)) for seed in (1, 2))
    for ref in (older, newer):
        registry.promote(ref.digest)
    registry.prune(0)
    with pytest.raises(ModelNotFoundError, match="is pruned"):
        find_adapter(registry, older.digest, base_digest=BASE.digest)
    assert find_adapter(registry, newer.digest, base_digest=BASE.digest)[0].state == "active"


def test_a_caller_may_ask_for_an_adapter_that_the_gate_refused(
    registry: AdapterRegistry, make_folder: Callable[..., Path]
) -> None:
    ref = register(registry, make_folder(1))
    registry.reject(ref.digest, metrics={})
    found, _ = find_adapter(registry, ref.digest, base_digest=BASE.digest, without=("revoked", "pruned"))
    assert (found.digest, found.state) == (ref.digest, "rejected")


def test_a_chat_adapter_is_refused(registry: AdapterRegistry, make_folder: Callable[..., Path]) -> None:
    ref = register(registry, make_folder(1, kind="chat"), "chat")
    with pytest.raises(AdapterRefusedError, match="kind chat, not encoder"):
        find_adapter(registry, ref.digest, base_digest=BASE.digest)


def test_an_adapter_of_another_base_is_refused_with_both_bases(
    registry: AdapterRegistry, make_folder: Callable[..., Path]
) -> None:
    ref = register(registry, make_folder(1))
    with pytest.raises(AdapterRefusedError, match="base bbbbbbbbbbbb, not on cccccccccccc"):
        find_adapter(registry, ref.digest, base_digest="c" * 64)


def test_an_adapter_whose_files_were_changed_is_refused(
    registry: AdapterRegistry, make_folder: Callable[..., Path]
) -> None:
    ref = register(registry, make_folder(1))
    (registry.store.fetch(ref, registry.snapshot()) / "card.json").write_text("{}")
    with pytest.raises(MongarsError, match="files were changed"):
        find_adapter(registry, ref.digest, base_digest=BASE.digest)


@pytest.fixture
def trained(registry: AdapterRegistry, make_folder: Callable[..., Path]) -> Callable[..., AdapterRef]:
    """Return trained(seed, version, init_from) -> the adapter, trained on that version of `chats`."""

    def make(seed: int, version: str, init_from: AdapterRef | None = None) -> AdapterRef:
        dataset = {"name": "chats", "version": version, "digest": "d" * 64}
        folder = make_folder(seed, dataset=dataset, init_from=init_from.digest if init_from else None)
        return registry.register(PublishRequest(folder, "tiny", BASE)).adapter

    return make


def test_an_adapter_learned_from_its_dataset_and_from_those_of_its_ancestors(
    registry: AdapterRegistry, trained: Callable[..., AdapterRef]
) -> None:
    first = trained(1, "v1")
    child = trained(2, "v2", first)
    grandchild = trained(3, "v3", child)
    stranger = trained(4, "v2")
    assert trained_on(registry, {"chats@v1"}) == (first, child, grandchild)
    assert trained_on(registry, {"chats@v2"}) == (child, grandchild, stranger)
    assert trained_on(registry, {"chats@v9"}) == ()


def test_a_pruned_adapter_is_not_listed_as_trained_on_a_dataset(
    registry: AdapterRegistry, trained: Callable[..., AdapterRef]
) -> None:
    gone = trained(1, "v1")
    child = trained(2, "v2", gone)
    registry.store.remove(gone, registry.snapshot())
    assert trained_on(registry, {"chats@v1"}) == (child,)
