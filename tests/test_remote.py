"""Client methods take name, signature and waiting time from the method that they call."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from mongars.remote import AsyncMethod, BlockingMethod, Call, StreamMethod


class Service:
    async def add(self, a: int, b: int = 2, *, c: int = 3) -> int:
        """Return a sum."""
        return a + b + c

    async def poll(self, generation: int, timeout_s: float = 5.0) -> int:
        return generation

    async def count(self, end: int) -> AsyncGenerator[int, None]:
        for number in range(end):
            yield number


class Blocking:
    sum = BlockingMethod(Service.add)
    poll = BlockingMethod(Service.poll, waits="timeout_s")

    def call(self, call: Call) -> Any:
        return call


class Async:
    add = AsyncMethod(Service.add)
    count = StreamMethod(Service.count)

    async def call(self, call: Call) -> Any:
        return call

    async def stream(self, call: Call) -> AsyncGenerator[Any, None]:
        yield call


class Handle:
    def __getattr__(self, name: str) -> Any:
        return type("Method", (), {"remote": lambda _, *args, **kwargs: (name, args, kwargs)})()


def test_a_call_has_the_name_and_the_arguments_of_the_remote_method() -> None:
    call: Any = Blocking().sum(1, c=4)
    assert (call.method, call.args, call.kwargs, call.waits_s) == ("add", (1,), {"c": 4}, 0.0)
    assert call.send(Handle()) == ("add", (1,), {"c": 4})


async def test_coroutines_and_generators_are_called_in_the_same_way() -> None:
    call: Any = await Async().add(1, 2)
    assert call == Call("add", (1, 2), {})
    assert [each async for each in Async().count(end=3)] == [Call("count", (), {"end": 3})]


@pytest.mark.parametrize(("args", "kwargs", "waits_s"), [((1, 30.0), {}, 30.0), ((1,), {"timeout_s": 7.0}, 7.0)])
def test_the_wait_of_a_long_poll_is_read_from_its_arguments(
    args: tuple[Any, ...], kwargs: dict[str, float], waits_s: float
) -> None:
    call: Any = Blocking().poll(*args, **kwargs)
    assert call.waits_s == waits_s


def test_the_default_wait_of_a_long_poll_counts_too() -> None:
    call: Any = Blocking().poll(1)
    assert call.waits_s == 5.0


def test_a_wait_that_the_remote_method_does_not_take_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Service\.add has no parameter timeout_s"):
        BlockingMethod(Service.add, waits="timeout_s")


def test_the_client_shows_the_docstring_of_the_remote_method() -> None:
    assert vars(Blocking)["sum"].__doc__ == "Return a sum."
