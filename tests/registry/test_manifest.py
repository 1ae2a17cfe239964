"""The rules of change, under random sequences of changes and in single cases."""

from datetime import UTC, datetime

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mongars.errors import ModelNotFoundError, RefusedError
from mongars.records import ADAPTER_KINDS, AdapterKind, AdapterRef
from mongars.registry import manifest as rules
from mongars.registry.manifest import AdapterManifest, serving_order
from mongars.registry.manifest_json import contradiction

AT = datetime(2026, 1, 1, tzinfo=UTC)


def ref(number: int, kind: AdapterKind = "encoder") -> AdapterRef:
    return AdapterRef(f"a{number}", f"{number:064x}", kind, "candidate", "b" * 64, None, AT)


def published(*numbers: int) -> AdapterManifest:
    manifest = AdapterManifest()
    for number in numbers:
        manifest = rules.publish(manifest, ref(number), AT)
    return manifest


class AnyChanges(RuleBasedStateMachine):
    """Random changes; a refused one does not alter the manifest."""

    def __init__(self) -> None:
        super().__init__()
        self.manifest = AdapterManifest()
        self.revoked: set[str] = set()

    def change(self, changed: AdapterManifest) -> None:
        assert changed is self.manifest or changed.generation == self.manifest.generation + 1
        assert changed.history[: len(self.manifest.history)] == self.manifest.history
        self.manifest = changed

    @rule(number=st.integers(0, 7), activate=st.booleans())
    def publish_or_register(self, number: int, activate: bool) -> None:
        added = ref(number, ADAPTER_KINDS[number % 2])
        apply = rules.publish if activate else rules.register
        try:
            once = apply(self.manifest, added, AT)
        except RefusedError:
            assert self.manifest.find(added.digest).state in ("rejected", "revoked")
            return
        self.change(once)
        assert apply(once, added, AT) is once

    @precondition(lambda self: self.manifest.adapters)
    @rule(
        data=st.data(),
        change=st.sampled_from([rules.promote, rules.reject, rules.revoke, rules.prune]),
    )
    def change_one(self, data: st.DataObject, change: object) -> None:
        chosen = data.draw(st.sampled_from(self.manifest.adapters))
        try:
            once = change(self.manifest, chosen.digest, AT)
        except RefusedError:
            return
        self.change(once)
        assert change(once, chosen.digest, AT) is once
        if change is rules.revoke:
            self.revoked.add(chosen.digest)

    @rule(kind=st.sampled_from(ADAPTER_KINDS))
    def roll_back(self, kind: AdapterKind) -> None:
        order = serving_order(self.manifest, kind)
        try:
            self.change(rules.rollback(self.manifest, kind, AT))
        except RefusedError:
            assert len(order) < 2
        else:
            assert self.manifest.current[kind] == order[-2]

    @invariant()
    def the_manifest_has_no_contradiction(self) -> None:
        assert contradiction(self.manifest) is None

    @invariant()
    def a_revoked_adapter_is_never_served(self) -> None:
        assert not self.revoked & set(self.manifest.current.values())
        assert all(self.manifest.find(digest).state == "revoked" for digest in self.revoked)

    @invariant()
    def the_replayed_history_ends_at_the_served_adapter(self) -> None:
        for kind in ADAPTER_KINDS:
            order = serving_order(self.manifest, kind)
            assert (order[-1] if order else None) == self.manifest.current[kind]


AnyChanges.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyChanges = AnyChanges.TestCase


def test_a_rollback_serves_the_older_digest_in_a_newer_generation() -> None:
    manifest = rules.rollback(published(1, 2), "encoder", AT)
    assert manifest.generation == 3
    assert manifest.served("encoder").digest == ref(1).digest
    assert manifest.find(ref(2).digest).state == "retired"


def test_a_second_rollback_goes_one_step_further_back() -> None:
    manifest = rules.rollback(rules.rollback(published(1, 2, 3), "encoder", AT), "encoder", AT)
    assert manifest.served("encoder").digest == ref(1).digest
    with pytest.raises(RefusedError, match="No older encoder adapter"):
        rules.rollback(manifest, "encoder", AT)


def test_revoking_the_served_adapter_serves_the_previous_one_again() -> None:
    manifest = rules.revoke(published(1, 2), ref(2).digest, AT)
    assert manifest.served("encoder").digest == ref(1).digest
    assert rules.revoke(manifest, ref(1).digest, AT).served("encoder") is None


def test_publishing_a_retired_adapter_changes_nothing() -> None:
    manifest = published(1, 2)
    assert rules.publish(manifest, ref(1), AT) is manifest


def test_a_rejected_adapter_keeps_the_metrics_of_its_refusal() -> None:
    manifest = rules.register(AdapterManifest(), ref(1), AT)
    manifest = rules.reject(manifest, ref(1).digest, AT, {"gate_effect": 0.5})
    assert manifest.find(ref(1).digest).metrics == {"gate_effect": 0.5}
    with pytest.raises(RefusedError, match="is rejected"):
        rules.promote(manifest, ref(1).digest, AT)
    with pytest.raises(RefusedError, match="is rejected"):
        rules.publish(manifest, ref(1), AT)


def test_one_digest_cannot_be_of_two_kinds() -> None:
    with pytest.raises(RefusedError, match="known as kind encoder"):
        rules.publish(published(1), ref(1, "chat"), AT)


def test_a_digest_prefix_must_match_one_adapter_only() -> None:
    manifest = published(1, 2)
    with pytest.raises(ModelNotFoundError, match="More than one"):
        manifest.adapter("0" * 12)
    with pytest.raises(ModelNotFoundError, match="No adapter"):
        manifest.adapter("f" * 12)
    assert published(1).adapter("0" * 12).digest == ref(1).digest
