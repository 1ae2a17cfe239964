"""The named actor on a real Ray: one for all clients, changes answer polls, state survives a kill."""

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from ray.exceptions import RayActorError

from mongars.errors import AdapterRefusedError, ModelNotFoundError, SettingsError, UnavailableError
from mongars.registry import AdapterRegistry, BaseSpec, Publication, PublishRequest
from mongars.registry.actor import ACTOR_NAME, BlockingRegistryClient, RegistryClient
from mongars.storage.digests import folder_digest

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

BASE = BaseSpec("b" * 64, {"layers.0.self_attn.q_proj.weight": (4, 4)})
LONG_S = 60.0
WriteAdapter = Callable[..., Path]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "encoders"


@pytest.fixture
def namespace() -> Iterator[str]:
    """Yield a namespace for one test, and kill the detached actor in it at the end."""
    name = f"registry-{uuid.uuid4().hex[:8]}"
    yield name
    try:
        ray.kill(ray.get_actor(ACTOR_NAME, namespace=name))
    except ValueError:
        return  # the test started none


async def publish(namespace: str, request: PublishRequest) -> Publication:
    client = await asyncio.to_thread(BlockingRegistryClient.connect, namespace)
    return await asyncio.to_thread(client.publish, request)


async def kill_for_good(namespace: str) -> None:
    """Return once callers see the actor dead: ray.kill does not wait, and the actor may answer once more."""
    actor = ray.get_actor(ACTOR_NAME, namespace=namespace)
    unanswered = actor.wait_for.remote(2**31, LONG_S)
    ray.kill(actor)
    with pytest.raises(RayActorError):
        await unanswered


async def test_a_publish_answers_the_polls_and_a_repeat_keeps_the_generation(
    namespace: str, root: Path, tmp_path: Path, write_adapter: WriteAdapter
) -> None:
    client = await RegistryClient.connect_or_create(namespace, root)
    polls = [asyncio.create_task(client.wait_for(1, LONG_S)) for _ in range(2)]
    request = PublishRequest(write_adapter(tmp_path / "one", 1), "a", BASE)
    first = await publish(namespace, request)
    assert [manifest.generation for manifest in await asyncio.gather(*polls)] == [1, 1]
    second = await publish(namespace, request)
    assert (first.generation, first.changed, second.generation, second.changed) == (1, True, 1, False)


async def test_a_killed_actor_rebuilds_itself_from_storage(
    namespace: str, root: Path, tmp_path: Path, write_adapter: WriteAdapter
) -> None:
    client = await RegistryClient.connect_or_create(namespace, root)
    published = await publish(namespace, PublishRequest(write_adapter(tmp_path / "one", 1), "a", BASE))
    ray.kill(ray.get_actor(ACTOR_NAME, namespace=namespace), no_restart=False)
    assert (await client.snapshot()).current["encoder"] == published.adapter.digest
    poll = asyncio.create_task(client.wait_for(2, LONG_S))
    await publish(namespace, PublishRequest(write_adapter(tmp_path / "two", 2), "a", BASE))
    assert (await poll).generation == 2


async def test_an_object_store_gives_a_restarted_actor_and_another_machine_the_manifest(
    namespace: str, root: Path, tmp_path: Path, write_adapter: WriteAdapter, bucket: str
) -> None:
    client = await RegistryClient.connect_or_create(namespace, root, bucket)
    done = await publish(namespace, PublishRequest(write_adapter(tmp_path / "one", 1), "a", BASE))
    ray.kill(ray.get_actor(ACTOR_NAME, namespace=namespace), no_restart=False)
    manifest = await client.snapshot()
    assert manifest.served("encoder") == done.adapter
    other = await asyncio.to_thread(AdapterRegistry, tmp_path / "elsewhere", bucket)
    folder = await asyncio.to_thread(other.store.fetch, done.adapter, manifest)
    assert folder_digest(folder) == done.adapter.digest
    with pytest.raises(SettingsError, match="MONGARS_ENCODERS_URL"):
        await RegistryClient.connect_or_create(namespace, root)


async def test_two_creators_get_one_actor(namespace: str, root: Path) -> None:
    first, second = await asyncio.gather(*(RegistryClient.connect_or_create(namespace, root) for _ in range(2)))
    await first.acknowledge("replica", 0, {"encoder": None})
    assert [one.replica for one in (await second.status()).replicas] == ["replica"]


async def test_errors_arrive_as_their_own_class(namespace: str, root: Path, tmp_path: Path) -> None:
    client = await RegistryClient.connect_or_create(namespace, root)
    with pytest.raises(ModelNotFoundError) as caught:
        await client.promote("f" * 64)
    assert type(caught.value) is ModelNotFoundError
    assert caught.value.remedy is not None
    with pytest.raises(AdapterRefusedError, match="is not a folder"):
        await publish(namespace, PublishRequest(tmp_path / "none", "a", BASE))


async def test_a_change_in_storage_by_another_process_answers_the_poll(
    namespace: str, root: Path, tmp_path: Path, write_adapter: WriteAdapter
) -> None:
    client = await RegistryClient.connect_or_create(namespace, root)
    poll = asyncio.create_task(client.wait_for(1, LONG_S))
    request = PublishRequest(write_adapter(tmp_path / "one", 1), "a", BASE)
    await asyncio.to_thread(AdapterRegistry(root).publish, request)
    assert (await poll).generation == 1


async def test_replicas_replace_an_actor_that_was_killed_for_good(
    namespace: str, root: Path, tmp_path: Path, write_adapter: WriteAdapter
) -> None:
    replicas = await asyncio.gather(*(RegistryClient.connect_or_create(namespace, root) for _ in range(2)))
    driver = await asyncio.to_thread(BlockingRegistryClient.connect, namespace)
    done = await publish(namespace, PublishRequest(write_adapter(tmp_path / "one", 1), "a", BASE))
    polls = [asyncio.create_task(replica.wait_for(2, LONG_S)) for replica in replicas]
    await kill_for_good(namespace)
    manifest = None
    while manifest is None:
        with contextlib.suppress(UnavailableError):  # a driver starts no actor: a replica must
            manifest = await asyncio.to_thread(driver.snapshot)
    assert manifest.served("encoder") == done.adapter
    await asyncio.to_thread(AdapterRegistry(root).revoke, done.adapter.digest)
    assert [manifest.generation for manifest in await asyncio.gather(*polls)] == [2, 2]


async def test_a_driver_does_not_replace_an_actor_that_is_gone(namespace: str, root: Path) -> None:
    await RegistryClient.connect_or_create(namespace, root)
    driver = await asyncio.to_thread(BlockingRegistryClient.connect, namespace)
    await kill_for_good(namespace)
    with pytest.raises(UnavailableError, match="mongars serve"):
        await asyncio.to_thread(driver.snapshot)


def test_without_an_actor_the_error_names_the_remedy(namespace: str) -> None:
    with pytest.raises(UnavailableError, match="mongars serve"):
        BlockingRegistryClient.connect(namespace)


async def test_another_folder_than_the_running_one_is_refused(namespace: str, root: Path, tmp_path: Path) -> None:
    client = await RegistryClient.connect_or_create(namespace, root)
    with pytest.raises(SettingsError, match="running adapter registry uses"):
        await RegistryClient.connect_or_create(namespace, tmp_path / "elsewhere")
    assert (await client.status()).generation == 0
