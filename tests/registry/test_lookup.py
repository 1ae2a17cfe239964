"""Which adapter a digest names outside a server, and every reason why it names none."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mongars.errors import AdapterRefusedError, ModelNotFoundError, MongarsError
from mongars.records import AdapterKind, AdapterRef
from mongars.registry.lookup import find_adapter
from mongars.registry.registry import AdapterRegistry

BASE = "b" * 64


@pytest.fixture
def registry(tmp_path: Path) -> AdapterRegistry:
    return AdapterRegistry(tmp_path / "encoders")


def keep(registry: AdapterRegistry, folder: Path, kind: AdapterKind = "encoder") -> AdapterRef:
    return registry.register(folder, "tiny", kind, base_digest=BASE, base_shapes=None).adapter


def test_the_first_digits_name_an_adapter_that_is_not_current(
    registry: AdapterRegistry, make_folder: Callable[..., Path]
) -> None:
    keep(registry, make_folder(1))
    ref = keep(registry, make_folder(2))
    folder = registry.store.fetch(ref, registry.snapshot())
    assert find_adapter(registry, ref.digest[:8], base_digest=BASE) == (ref, folder)


def test_an_unknown_digest_is_refused_with_the_remedy(registry: AdapterRegistry) -> None:
    with pytest.raises(ModelNotFoundError, match="mongars adapters list"):
        find_adapter(registry, "0" * 64, base_digest=BASE)


@pytest.mark.parametrize(("change", "state"), [("revoke", "revoked"), ("reject", "rejected")])
def test_an_adapter_that_is_never_served_is_not_found(
    registry: AdapterRegistry, make_folder: Callable[..., Path], change: str, state: str
) -> None:
    ref = keep(registry, make_folder(1))
    getattr(registry, change)(ref.digest)
    with pytest.raises(ModelNotFoundError, match=f"tiny@{ref.digest[:12]} is {state}"):
        find_adapter(registry, ref.digest, base_digest=BASE)


def test_an_adapter_whose_files_were_pruned_is_not_found(
    registry: AdapterRegistry, make_folder: Callable[..., Path]
) -> None:
    older, newer = (keep(registry, make_folder(seed)) for seed in (1, 2))
    for ref in (older, newer):
        registry.promote(ref.digest)
    registry.prune(0)
    with pytest.raises(ModelNotFoundError, match="is pruned"):
        find_adapter(registry, older.digest, base_digest=BASE)
    assert find_adapter(registry, newer.digest, base_digest=BASE)[0].state == "active"


def test_a_caller_may_want_what_the_gate_refused(
    registry: AdapterRegistry, make_folder: Callable[..., Path]
) -> None:
    ref = keep(registry, make_folder(1))
    registry.reject(ref.digest)
    found, _ = find_adapter(registry, ref.digest, base_digest=BASE, without=("revoked", "pruned"))
    assert (found.digest, found.state) == (ref.digest, "rejected")


def test_an_adapter_for_chat_is_no_encoder(registry: AdapterRegistry, make_folder: Callable[..., Path]) -> None:
    ref = keep(registry, make_folder(1, kind="chat"), "chat")
    with pytest.raises(AdapterRefusedError, match="kind chat, not encoder"):
        find_adapter(registry, ref.digest, base_digest=BASE)


def test_an_adapter_of_another_base_is_refused_and_both_are_named(
    registry: AdapterRegistry, make_folder: Callable[..., Path]
) -> None:
    ref = keep(registry, make_folder(1))
    with pytest.raises(AdapterRefusedError, match="base bbbbbbbbbbbb, not on cccccccccccc"):
        find_adapter(registry, ref.digest, base_digest="c" * 64)


def test_an_adapter_whose_files_were_changed_is_refused(
    registry: AdapterRegistry, make_folder: Callable[..., Path]
) -> None:
    ref = keep(registry, make_folder(1))
    (registry.store.fetch(ref, registry.snapshot()) / "card.json").write_text("{}")
    with pytest.raises(MongarsError, match="files were changed"):
        find_adapter(registry, ref.digest, base_digest=BASE)
