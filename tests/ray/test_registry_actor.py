"""The named actor on a real Ray: found by all, woken by changes, rebuilt from storage when killed."""

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from mongars.errors import AdapterRefusedError, ModelNotFoundError, SettingsError, UnavailableError
from mongars.registry import AdapterRegistry
from mongars.registry.actor import ACTOR_NAME, BlockingRegistryClient, RegistryClient
from mongars.storage.digests import folder_digest

# `s3_everywhere` first: the workers inherit the address and keys of the S3 server.
pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("s3_everywhere", "local_ray")]

BASE = "b" * 64
LONG_S = 60.0
WriteAdapter = Callable[..., Path]


@pytest.fixture(scope="module")
def s3_everywhere(s3_environment: dict[str, str]) -> Iterator[None]:
    """Set the environment of one who may use the S3 server before this module's Ray starts its workers in it."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in s3_environment.items():
            environment.setenv(name, value)
        yield


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "encoders"


@pytest.fixture
def namespace() -> Iterator[str]:
    """A namespace of its own for every test; the detached actor in it is killed at the end."""
    name = f"registry-{uuid.uuid4().hex[:8]}"
    yield name
    try:
        ray.kill(ray.get_actor(ACTOR_NAME, namespace=name))
    except ValueError:
        return  # the test started none


async def test_a_publish_answers_the_polls_and_a_repeat_keeps_the_generation(
    namespace: str, root: Path, tmp_path: Path, write_adapter: WriteAdapter
) -> None:
    client = await RegistryClient.connect_or_create(namespace, root)
    polls = [asyncio.create_task(client.wait_for(1, LONG_S)) for _ in range(2)]
    folder = write_adapter(tmp_path / "one", 1)
    first = await client.publish(folder, "a", base_digest=BASE, base_shapes=None)
    assert [manifest.generation for manifest in await asyncio.gather(*polls)] == [1, 1]
    second = await client.publish(folder, "a", base_digest=BASE, base_shapes=None)
    assert (first.generation, first.changed, second.generation, second.changed) == (1, True, 1, False)


async def test_a_killed_actor_rebuilds_itself_from_storage(
    namespace: str, root: Path, tmp_path: Path, write_adapter: WriteAdapter
) -> None:
    client = await RegistryClient.connect_or_create(namespace, root)
    published = await client.publish(write_adapter(tmp_path / "one", 1), "a", base_digest=BASE, base_shapes=None)
    ray.kill(ray.get_actor(ACTOR_NAME, namespace=namespace), no_restart=False)
    assert (await client.snapshot()).current["encoder"] == published.adapter.digest
    poll = asyncio.create_task(client.wait_for(2, LONG_S))
    await client.publish(write_adapter(tmp_path / "two", 2), "a", base_digest=BASE, base_shapes=None)
    assert (await poll).generation == 2


async def test_on_an_object_store_a_killed_actor_knows_what_was_acknowledged_and_so_does_another_machine(
    namespace: str, root: Path, tmp_path: Path, write_adapter: WriteAdapter, bucket: str
) -> None:
    client = await RegistryClient.connect_or_create(namespace, root, bucket)
    done = await client.publish(write_adapter(tmp_path / "one", 1), "a", base_digest=BASE, base_shapes=None)
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
        await client.publish(tmp_path / "none", "a", base_digest=BASE, base_shapes=None)


async def test_a_change_in_storage_by_another_process_answers_the_poll(
    namespace: str, root: Path, tmp_path: Path, write_adapter: WriteAdapter
) -> None:
    client = await RegistryClient.connect_or_create(namespace, root)
    poll = asyncio.create_task(client.wait_for(1, LONG_S))
    await asyncio.to_thread(
        AdapterRegistry(root).publish, write_adapter(tmp_path / "one", 1), "a", base_digest=BASE, base_shapes=None
    )
    assert (await poll).generation == 1


async def test_an_actor_that_was_killed_for_good_is_made_again_by_whoever_may(
    namespace: str, root: Path, tmp_path: Path, write_adapter: WriteAdapter
) -> None:
    replicas = await asyncio.gather(*(RegistryClient.connect_or_create(namespace, root) for _ in range(2)))
    driver = await asyncio.to_thread(BlockingRegistryClient.connect, namespace)
    done = await replicas[0].publish(write_adapter(tmp_path / "one", 1), "a", base_digest=BASE, base_shapes=None)
    polls = [asyncio.create_task(replica.wait_for(2, LONG_S)) for replica in replicas]
    await asyncio.sleep(0)
    ray.kill(ray.get_actor(ACTOR_NAME, namespace=namespace))
    manifest = None
    while manifest is None:
        with contextlib.suppress(UnavailableError):  # a driver makes none: it waits for a replica to do so
            manifest = await asyncio.to_thread(driver.snapshot)
    assert manifest.served("encoder") == done.adapter
    await asyncio.to_thread(driver.revoke, done.adapter.digest)
    assert [manifest.generation for manifest in await asyncio.gather(*polls)] == [2, 2]


def test_a_driver_does_not_start_an_actor_in_place_of_one_that_is_gone(namespace: str, root: Path) -> None:
    BlockingRegistryClient.connect_or_create(namespace, root)
    driver = BlockingRegistryClient.connect(namespace)
    ray.kill(ray.get_actor(ACTOR_NAME, namespace=namespace))
    with pytest.raises(UnavailableError, match="mongars serve"):
        driver.snapshot()


def test_without_an_actor_the_error_names_the_remedy(namespace: str) -> None:
    with pytest.raises(UnavailableError, match="mongars serve"):
        BlockingRegistryClient.connect(namespace)


def test_another_folder_than_the_running_one_is_refused(namespace: str, root: Path, tmp_path: Path) -> None:
    client = BlockingRegistryClient.connect_or_create(namespace, root)
    with pytest.raises(SettingsError, match="keeps"):
        BlockingRegistryClient.connect_or_create(namespace, tmp_path / "elsewhere")
    assert BlockingRegistryClient.connect(namespace).status() == client.status()
