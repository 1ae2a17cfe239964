"""The registry's clients over handles without Ray: arguments, timeouts, errors and one retry after a death."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, RayTaskError

from mongars.errors import AdapterRefusedError, StaleGenerationError, UnavailableError
from mongars.registry import AdapterManifest, BaseSpec, PublishRequest
from mongars.registry.actor import CALL_TIMEOUT_S, BlockingRegistryClient, RegistryClient

REQUEST = PublishRequest(Path("adapter"), "a", BaseSpec("b" * 64, {}))
REFUSED = AdapterRefusedError("adapter is not a folder.", remedy="Name one.")


class Handle:
    """An actor's handle: `answers` has the result of each method, or the error that its call ends with."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def remote(*args: Any, **kwargs: Any) -> "Reference":
            self.calls.append((name, args, kwargs))
            return Reference(self.answers[name])

        return type("Method", (), {"remote": staticmethod(remote)})()


class Reference:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def get(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def __await__(self) -> Any:
        async def get() -> Any:
            return self.get()

        return get().__await__()


@pytest.fixture
def timeouts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let ray.get resolve the references above; return the timeouts that it was called with."""
    seen: list[float] = []

    def get(reference: Reference, *, timeout: float) -> Any:
        seen.append(timeout)
        return reference.get()

    monkeypatch.setattr(ray, "get", get)
    return seen


def finder(*handles: Any) -> Callable[[], Any]:
    """Return a function that returns the next handle at each call, or raises it if it is an error."""
    left = list(handles)

    def find() -> Any:
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    return find


def test_a_blocking_call_passes_its_arguments_and_waits_beyond_the_poll(timeouts: list[float]) -> None:
    handle = Handle(publish="published", wait_acknowledged="status")
    client: Any = BlockingRegistryClient(finder(handle))
    assert client.publish(REQUEST) == "published"
    assert client.wait_acknowledged(3, ["r1"], timeout_s=50.0) == "status"
    assert handle.calls == [("publish", (REQUEST,), {}), ("wait_acknowledged", (3, ["r1"]), {"timeout_s": 50.0})]
    assert timeouts == [CALL_TIMEOUT_S, 50.0 + CALL_TIMEOUT_S]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RayTaskError("publish", "remote traceback", REFUSED).as_instanceof_cause(), AdapterRefusedError),
        (RayTaskError("publish", "remote traceback", KeyError("x")).as_instanceof_cause(), KeyError),
        (GetTimeoutError("too late"), UnavailableError),
    ],
)
def test_an_error_of_the_actor_is_raised_as_our_own(
    timeouts: list[float], error: Exception, expected: type[Exception]
) -> None:
    client = BlockingRegistryClient(finder(Handle(publish=error)))
    with pytest.raises(expected) as caught:
        client.publish(REQUEST)
    if expected is AdapterRefusedError:
        assert caught.value is REFUSED


def test_a_blocking_call_is_repeated_once_on_the_successor_of_a_dead_actor(timeouts: list[float]) -> None:
    dead, successor = Handle(snapshot=ActorDiedError()), Handle(snapshot=AdapterManifest(4))
    client = BlockingRegistryClient(finder(dead, successor))
    assert client.snapshot().generation == 4
    assert client.snapshot().generation == 4
    assert (len(dead.calls), len(successor.calls)) == (1, 2)


def test_a_second_death_and_a_missing_successor_are_unavailable(timeouts: list[float]) -> None:
    dead = [Handle(snapshot=ActorDiedError()) for _ in range(2)]
    with pytest.raises(UnavailableError, match="has died"):
        BlockingRegistryClient(finder(*dead)).snapshot()
    with pytest.raises(UnavailableError, match="none runs"):
        BlockingRegistryClient(finder(dead[0], UnavailableError("none runs"))).snapshot()


async def test_a_coroutine_is_repeated_once_on_the_successor_of_a_dead_actor() -> None:
    dead, successor = Handle(snapshot=ActorDiedError()), Handle(snapshot=AdapterManifest(4))
    client = RegistryClient(finder(successor), dead)
    assert (await client.snapshot()).generation == 4
    assert (await client.snapshot()).generation == 4
    assert (len(dead.calls), len(successor.calls)) == (1, 2)


async def test_a_promotion_and_a_rollback_act_on_the_generation_seen_before() -> None:
    stale = StaleGenerationError("another change was made")
    handle = Handle(
        snapshot=AdapterManifest(7),
        promote="promoted",
        rollback=RayTaskError("rollback", "remote traceback", stale).as_instanceof_cause(),
    )
    client: Any = RegistryClient(finder(), handle)
    assert await client.promote("abc") == "promoted"
    with pytest.raises(StaleGenerationError) as caught:
        await client.rollback("encoder")
    assert caught.value is stale
    changes = [call for call in handle.calls if call[0] != "snapshot"]
    assert changes == [("promote", ("abc",), {"seen": 7}), ("rollback", ("encoder",), {"seen": 7})]


async def test_a_coroutine_that_waits_too_long_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts: list[float] = []

    async def wait_for(_: Any, seconds: float) -> Any:
        timeouts.append(seconds)
        raise TimeoutError

    monkeypatch.setattr(asyncio, "wait_for", wait_for)
    client = RegistryClient(finder(), Handle(wait_for=AdapterManifest()))
    with pytest.raises(UnavailableError, match="does not answer"):
        await client.wait_for(1, timeout_s=10.0)
    assert timeouts == [10.0 + CALL_TIMEOUT_S]
