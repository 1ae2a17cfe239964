import asyncio
import dataclasses
import threading

import pytest

from mongars.errors import AdapterRefusedError, ModelNotFoundError, UnavailableError
from mongars.records import AdapterRef, now
from mongars.registry import manifest as rules
from mongars.registry.manifest import AdapterManifest
from mongars.serving.engine.reconcile import Reconciler


class FakeEngine:
    """Routes the given versions; refuses the digests in `bad`."""

    def __init__(self):
        self.generation, self.current, self.bad, self.revoked = (
            0,
            {"encoder": None, "chat": None},
            set(),
            frozenset(),
        )
        self.opened, self.loading = [], []

    def adopt(self, generation, current, *, revoked=frozenset()):
        self.loading.append(threading.current_thread())
        digests = {kind: target[0].digest if target else None for kind, target in current.items()}
        if self.bad & set(digests.values()):
            raise AdapterRefusedError("Damaged.")
        self.generation, self.current, self.revoked = generation, digests, revoked
        return True

    def open(self, ref, folder):
        self.loading.append(threading.current_thread())
        self.opened.append((ref.digest, folder))
        return FakeLease()


class FakeLease:
    released = False

    def release(self):
        self.released = True


class FakeRegistry:
    def __init__(self):
        self.manifest, self.awaited, self.acknowledged = AdapterManifest(), [], []

    async def snapshot(self):
        return self.manifest

    async def wait_for(self, generation, timeout_s):
        self.awaited.append(generation)
        return self.manifest

    async def acknowledge(self, replica, generation, digests):
        self.acknowledged.append((replica, generation, digests["encoder"]))


class Store:
    def fetch(self, ref, manifest):
        return f"/store/{ref.name}"


def ref(digit, kind="encoder"):
    return AdapterRef(f"a{digit}", digit * 64, kind, "candidate", "b" * 64, None, now())


@pytest.fixture
def parts():
    engine, registry = FakeEngine(), FakeRegistry()
    return engine, registry, Reconciler(engine, registry, Store(), "r1")


def publish(registry, adapter):
    registry.manifest = rules.publish(registry.manifest, adapter, now())


async def test_a_replica_is_current_and_acknowledged_before_it_is_ready(parts):
    engine, registry, reconciler = parts
    publish(registry, ref("1"))
    await reconciler.start()
    assert engine.generation == 1
    assert registry.acknowledged == [("r1", 1, "1" * 64)]


async def test_a_replica_whose_first_load_fails_is_not_ready(parts):
    engine, registry, reconciler = parts
    publish(registry, ref("1"))
    engine.bad = {"1" * 64}
    with pytest.raises(AdapterRefusedError):
        await reconciler.start()
    assert registry.acknowledged == []


async def test_each_step_waits_for_the_next_generation_and_acknowledges_the_served_one(parts):
    _, registry, reconciler = parts
    await reconciler.start()
    publish(registry, ref("1"))
    await reconciler.step()
    publish(registry, ref("2"))
    await reconciler.step()
    assert registry.awaited == [1, 2]
    assert registry.acknowledged[-1] == ("r1", 2, "2" * 64)


async def test_a_load_that_fails_keeps_the_old_version_and_is_retried_each_heartbeat(parts):
    engine, registry, reconciler = parts
    publish(registry, ref("1"))
    await reconciler.start()
    engine.bad = {"2" * 64}
    publish(registry, ref("2"))
    await reconciler.step()
    assert reconciler.status()["load_failures"] == 1
    assert "Damaged" in reconciler.status()["last_failure"]
    assert registry.acknowledged[-1] == ("r1", 1, "1" * 64)
    engine.bad = set()
    await reconciler.step()  # the registry answers after a heartbeat, with the same generation
    assert registry.awaited[-1] == 3  # waiting for a generation that exists would be a busy loop
    assert engine.current["encoder"] == "2" * 64
    assert reconciler.status()["last_failure"] is None


async def test_each_load_runs_on_a_thread_that_ends_with_it(parts):
    engine, registry, reconciler = parts
    publish(registry, ref("1"))
    await reconciler.start()
    await reconciler.lease("encoder", "1" * 64)
    for thread in engine.loading:
        thread.join(timeout=20)
    assert [thread.is_alive() for thread in engine.loading] == [False, False]


async def test_the_engine_learns_which_adapters_are_revoked(parts):
    engine, registry, reconciler = parts
    publish(registry, ref("1"))
    registry.manifest = rules.revoke(registry.manifest, "1" * 64, now())
    await reconciler.start()
    assert engine.revoked == {"1" * 64}


async def test_a_named_adapter_is_opened_by_a_prefix_that_only_the_registry_knows(parts):
    engine, registry, reconciler = parts
    registry.manifest = rules.register(registry.manifest, ref("3"), now())
    await reconciler.lease("encoder", "3" * 12)
    assert engine.opened == [("3" * 64, "/store/a3")]


async def test_an_unknown_revoked_or_wrong_kind_of_adapter_is_not_found(parts):
    _, registry, reconciler = parts
    publish(registry, ref("1"))
    publish(registry, ref("2"))
    registry.manifest = rules.revoke(registry.manifest, "1" * 64, now())
    for kind, digest in (("encoder", "9" * 64), ("encoder", "1" * 64), ("chat", "2" * 64)):
        with pytest.raises(ModelNotFoundError):
            await reconciler.lease(kind, digest)


async def test_a_pruned_adapter_is_not_found_and_not_loaded(parts):
    engine, registry, reconciler = parts
    publish(registry, ref("1"))
    publish(registry, ref("2"))
    registry.manifest = rules.prune(registry.manifest, "1" * 64, now())
    with pytest.raises(ModelNotFoundError, match="pruned"):
        await reconciler.lease("encoder", "1" * 64)
    assert engine.opened == []


async def test_a_registry_that_does_not_answer_does_not_end_the_loop(parts, monkeypatch):
    engine, registry, reconciler = parts
    answers = iter([UnavailableError("Gone."), dataclasses.replace(AdapterManifest(), generation=5)])
    reached = asyncio.Event()

    async def wait_for(generation, timeout_s):
        answer = next(answers, None)
        if answer is None:
            reached.set()
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return answer

    registry.wait_for = wait_for
    monkeypatch.setattr("mongars.serving.engine.reconcile.RETRY_S", 0)
    loop = asyncio.create_task(reconciler.run())
    await asyncio.wait_for(reached.wait(), 5)
    loop.cancel()
    assert engine.generation == 5
