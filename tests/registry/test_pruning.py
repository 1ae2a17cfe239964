"""Pruning removes the files of old adapters, but of none that is served or may be served again."""

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mongars.errors import InputError, RefusedError
from mongars.records import ADAPTER_KINDS, AdapterRef
from mongars.registry import AdapterRegistry, BaseSpec, PublishRequest
from mongars.registry import manifest as rules
from mongars.registry.manifest import YOUNG, AdapterManifest, prunable, serving_order
from mongars.registry.manifest_json import contradiction, parse, serialise

BASE = BaseSpec("b" * 64, {"layers.0.self_attn.q_proj.weight": (4, 4)})
AT = datetime(2026, 1, 1, tzinfo=UTC)
MakeFolder = Callable[..., Path]
CHANGES = ("publish", "register", "promote", "reject", "revoke", "rollback")


def refused_or(change: Callable[[], AdapterManifest], before: AdapterManifest) -> AdapterManifest:
    try:
        return change()
    except RefusedError:
        return before


@st.composite
def manifests(draw: st.DrawFn) -> AdapterManifest:
    """Draw histories of up to eight adapters, registered a day apart."""
    manifest = AdapterManifest()
    for action in draw(st.lists(st.sampled_from(CHANGES), max_size=25)):
        number = draw(st.integers(0, 7))
        at = AT + timedelta(days=number)
        ref = AdapterRef(
            f"a{number}", f"{number:064x}", ADAPTER_KINDS[number % 2], "candidate", BASE.digest, None, at
        )
        if action in ("publish", "register"):
            manifest = refused_or(lambda: getattr(rules, action)(manifest, ref, AT), manifest)  # noqa: B023 (called at once)
        elif action == "rollback":
            manifest = refused_or(lambda: rules.rollback(manifest, ref.kind, AT), manifest)  # noqa: B023 (called at once)
        elif manifest.find(ref.digest):
            manifest = refused_or(lambda: getattr(rules, action)(manifest, ref.digest, AT), manifest)  # noqa: B023 (called at once)
    return manifest


def marked(manifest: AdapterManifest, keep: int, at: datetime) -> AdapterManifest:
    for ref in prunable(manifest, keep, at):
        if ref.state not in rules.KEPT_STATES:
            manifest = rules.prune(manifest, ref.digest, AT)
    return manifest


@settings(max_examples=200, deadline=None)
@given(before=manifests(), keep=st.integers(0, 4), days=st.integers(0, 20))
def test_current_reachable_new_and_young_adapters_are_kept_and_a_repeat_is_a_no_op(
    before: AdapterManifest, keep: int, days: int
) -> None:
    at = AT + timedelta(days=days)
    after = marked(before, keep, at)
    gone = {ref.digest for ref in prunable(before, keep, at)}
    assert contradiction(after) is None
    assert parse(serialise(after), "m") == after
    assert after.current == before.current
    assert len(after.adapters) == len(before.adapters)
    for kind in ADAPTER_KINDS:
        of_kind = [ref for ref in before.adapters if ref.kind == kind]
        newest = sorted(of_kind, key=lambda ref: ref.created_at)[len(of_kind) - min(keep, len(of_kind)) :]
        assert not gone & {ref.digest for ref in newest}
        walked_before, walked_after = before, after
        for step in range(keep + 1):
            current = walked_before.current[kind]
            assert walked_after.current[kind] == current
            assert current not in gone
            if step == keep or len(serving_order(walked_before, kind)) == 1 or current is None:
                break
            walked_before, walked_after = (rules.rollback(m, kind, AT) for m in (walked_before, walked_after))
    for ref in before.adapters:
        if ref.state == "candidate" and at - ref.created_at < YOUNG:
            assert ref.digest not in gone
        if ref.state in ("rejected", "revoked"):
            assert after.find(ref.digest) == ref, "its state still refuses it"
    assert marked(after, keep, at) is after


def test_a_negative_number_to_keep_is_refused() -> None:
    with pytest.raises(InputError, match="-1"):
        prunable(AdapterManifest(), -1, AT)


@pytest.fixture
def registry(tmp_path: Path) -> AdapterRegistry:
    return AdapterRegistry(tmp_path / "encoders")


def publish(registry: AdapterRegistry, folder: Path) -> AdapterRef:
    return registry.publish(PublishRequest(folder, "a", BASE)).adapter


def test_a_prune_removes_the_files_of_older_adapters_and_keeps_their_entries(
    registry: AdapterRegistry, make_folder: MakeFolder
) -> None:
    refs = [publish(registry, make_folder(seed)) for seed in range(4)]
    assert [ref.digest for ref in registry.prunable(1)] == [ref.digest for ref in refs[:2]]
    generation = registry.snapshot().generation
    assert [ref.digest for ref in registry.prune(1)] == [ref.digest for ref in refs[:2]]
    assert registry.prune(1) == ()
    manifest = registry.snapshot()
    assert manifest.generation == generation + 2
    assert [ref.state for ref in manifest.adapters] == ["pruned", "pruned", "retired", "active"]
    assert [registry.store.path(ref).exists() for ref in refs] == [False, False, True, True]
    assert registry.rollback().adapter.digest == refs[2].digest


def test_a_pruned_adapter_is_served_again_only_after_a_new_publish(
    registry: AdapterRegistry, make_folder: MakeFolder
) -> None:
    folder = make_folder(0)
    old = publish(registry, folder)
    publish(registry, make_folder(1))
    registry.prune(0)
    with pytest.raises(RefusedError, match=r"is pruned.*publish its folder again"):
        registry.promote(old.digest)
    with pytest.raises(RefusedError, match=r"is pruned.*publish its folder again"):
        registry.reject(old.digest, metrics={})
    again = publish(registry, folder)
    assert (again.digest, again.state) == (old.digest, "active")
    registry.store.verify(again)


def test_a_revoked_adapter_loses_its_files_and_stays_revoked(
    registry: AdapterRegistry, make_folder: MakeFolder
) -> None:
    folder = make_folder(0)
    revoked = publish(registry, folder)
    registry.revoke(revoked.digest)
    publish(registry, make_folder(1))
    assert [ref.state for ref in registry.prune(0)] == ["revoked"]
    assert not registry.store.path(revoked).exists()
    with pytest.raises(RefusedError, match="is revoked"):
        publish(registry, folder)


def test_a_young_candidate_is_kept_and_an_old_one_is_not(
    registry: AdapterRegistry, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register(PublishRequest(make_folder(0), "a", BASE))
    assert registry.prune(0) == ()
    monkeypatch.setattr(rules, "YOUNG", timedelta(0))
    assert [ref.state for ref in registry.prune(0)] == ["pruned"]


@pytest.mark.parametrize("step", ["rename", "rmdir"])
def test_the_next_prune_finishes_one_that_crashed_after_the_mark(
    registry: AdapterRegistry, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    folder = make_folder(0)
    old = publish(registry, folder)
    publish(registry, make_folder(1))
    with monkeypatch.context() as crash:

        def crashed(*_args: object, **_options: object) -> None:
            raise KeyboardInterrupt

        crash.setattr(Path, "rename", crashed) if step == "rename" else crash.setattr(os, "rmdir", crashed)
        with pytest.raises(KeyboardInterrupt):
            registry.prune(0)
    assert registry.snapshot().find(old.digest).state == "pruned"
    registry.prune(0)
    assert not registry.store.path(old).exists()
    publish(registry, folder)
    registry.store.verify(old)
    assert not list(registry.store.root.rglob(".*.tmp"))


def test_a_publish_of_the_same_bytes_waits_for_the_removal(
    registry: AdapterRegistry, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(0)
    old = publish(registry, folder)
    publish(registry, make_folder(1))
    publisher = threading.Thread(target=publish, args=(registry, folder))
    remove = registry.store.remove

    def remove_while_another_publishes(ref: AdapterRef, manifest: AdapterManifest) -> None:
        publisher.start()
        assert registry.snapshot().find(old.digest).state == "pruned"
        remove(ref, manifest)

    monkeypatch.setattr(registry.store, "remove", remove_while_another_publishes)
    registry.prune(0)
    publisher.join(timeout=60)
    assert registry.snapshot().served("encoder").digest == old.digest
    registry.store.verify(old)
