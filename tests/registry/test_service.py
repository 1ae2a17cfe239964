"""RegistryService without Ray: changes answer the polls, silent replicas are dropped."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from mongars.registry import AdapterRegistry, BaseSpec, PublishRequest
from mongars.registry.service import DROPPED_AFTER_S, RegistryService

BASE = BaseSpec("b" * 64, {"layers.0.self_attn.q_proj.weight": (4, 4)})
LONG_S = 60.0
MakeFolder = Callable[..., Path]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service(tmp_path: Path, clock: Clock) -> RegistryService:
    return RegistryService(str(tmp_path / "encoders"), clock=clock)


async def test_one_publish_answers_every_open_poll(service: RegistryService, make_folder: MakeFolder) -> None:
    polls = [asyncio.create_task(service.wait_for(1, LONG_S)) for _ in range(3)]
    await asyncio.sleep(0)
    done = await service.publish(PublishRequest(make_folder(), "a", BASE))
    manifests = await asyncio.wait_for(asyncio.gather(*polls), 10)
    assert [manifest.current["encoder"] for manifest in manifests] == [done.adapter.digest] * 3


async def test_a_change_by_another_process_answers_the_poll(
    service: RegistryService, make_folder: MakeFolder, tmp_path: Path
) -> None:
    assert (await service.wait_for(0, LONG_S)).generation == 0
    poll = asyncio.create_task(service.wait_for(1, LONG_S))
    other = AdapterRegistry(tmp_path / "encoders")
    await asyncio.to_thread(other.publish, PublishRequest(make_folder(), "a", BASE))
    assert (await asyncio.wait_for(poll, 10)).generation == 1


async def test_a_poll_returns_the_current_manifest_at_its_timeout(service: RegistryService) -> None:
    assert (await service.wait_for(5, 0.0)).generation == 0


async def test_the_skew_counts_only_replicas_with_a_recent_heartbeat(
    service: RegistryService, clock: Clock, make_folder: MakeFolder
) -> None:
    await service.publish(PublishRequest(make_folder(0), "a", BASE))
    await service.acknowledge("silent", 0, {"encoder": None})
    clock.now = DROPPED_AFTER_S - 1
    await service.acknowledge("alive", 1, {"encoder": "x"})
    status = await service.status()
    assert (status.skew, [one.replica for one in status.replicas]) == (1, ["alive", "silent"])
    clock.now = DROPPED_AFTER_S + 1
    status = await service.status()
    assert (status.skew, [one.replica for one in status.replicas]) == (0, ["alive"])


async def test_a_late_repeat_of_an_older_acknowledgement_is_ignored(service: RegistryService) -> None:
    await service.acknowledge("one", 4, {"encoder": "new"})
    await service.acknowledge("one", 3, {"encoder": "old"})
    assert [one.generation for one in (await service.status()).replicas] == [4]


async def test_the_last_acknowledgement_ends_the_wait(service: RegistryService) -> None:
    wait = asyncio.create_task(service.wait_acknowledged(1, ["one", "two"], LONG_S))
    await service.acknowledge("one", 1, {})
    await asyncio.sleep(0)
    assert not wait.done()
    await service.acknowledge("two", 2, {})
    status = await asyncio.wait_for(wait, 10)
    assert [one.generation for one in status.replicas] == [1, 2]
