"""Clients of deployments over handles without Serve."""

import inspect
from typing import Any

import pytest
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError

from mongars.errors import ConversationNotFoundError, OverloadedError, UnavailableError
from mongars.memory.pages import PageQuery
from mongars.records import ChatRef
from mongars.serving.deployments.clients import LLMClient, LLMReplica
from mongars.serving.deployments.llm import LLMServeDeployment
from mongars.serving.deployments.memory import MemoryClient


class Handle:
    """A deployment's handle; every call returns `response`."""

    def __init__(self, response: Any) -> None:
        self.response = response
        self.options_seen: list[dict[str, Any]] = []
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def options(self, **options: Any) -> "Handle":
        self.options_seen.append(options)
        return self

    def __getattr__(self, name: str) -> Any:
        def remote(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            return self.response

        return type("Method", (), {"remote": staticmethod(remote)})()


class Response:
    """One answer or error, or a stream of numbers; it notes whether it was cancelled."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.cancelled = False

    def __await__(self) -> Any:
        async def get() -> Any:
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return get().__await__()

    async def __aiter__(self) -> Any:
        for number in range(3):
            if isinstance(self.answer, Exception):
                raise self.answer
            yield number

    def cancel(self) -> None:
        self.cancelled = True


async def test_a_call_passes_its_arguments_and_returns_the_answer() -> None:
    handle = Handle(Response("found"))
    client: Any = MemoryClient(handle)
    assert await client.recall("ada", "my cat?", 2, chat=ChatRef("conv_1")) == "found"
    assert await client.conversations("ada", PageQuery(limit=1)) == "found"
    assert handle.calls == [
        ("recall", ("ada", "my cat?", 2), {"chat": ChatRef("conv_1")}),
        ("conversations", ("ada", PageQuery(limit=1)), {}),
    ]


async def test_a_stream_is_cancelled_when_the_caller_leaves_it() -> None:
    response = Response()
    handle = Handle(response)
    client: Any = MemoryClient(handle)
    stream = client.export("ada")
    assert await anext(stream) == 0
    assert {"stream": True} in handle.options_seen
    await stream.aclose()
    assert response.cancelled


def wrapped(error: Exception) -> Exception:
    """Return an error as Ray raises it at the caller: of the same class, with the original as its cause."""
    wrapper = type(error)("remote traceback")
    wrapper.__dict__["cause"] = error
    return wrapper


NOT_FOUND = ConversationNotFoundError("No conversation conv_9.")


@pytest.mark.parametrize(
    ("remote", "ours", "message"),
    [
        (wrapped(wrapped(NOT_FOUND)), ConversationNotFoundError, "No conversation conv_9"),
        (BackPressureError(1, 1), OverloadedError, "All replicas are busy"),
        (RayActorError(), UnavailableError, "A replica died"),
    ],
)
async def test_calls_and_streams_raise_our_own_errors(
    remote: Exception, ours: type[Exception], message: str
) -> None:
    client: Any = MemoryClient(Handle(Response(remote)))
    with pytest.raises(ours, match=message):
        await client.delete_conversation("ada", "conv_9")
    with pytest.raises(ours, match=message):
        await anext(client.export("ada"))


@pytest.mark.parametrize("name", ["embed", "stamp", "context_tokens"])
def test_the_llm_client_and_its_deployment_have_equal_signatures(name: str) -> None:
    declared, real = getattr(LLMReplica, name), getattr(LLMServeDeployment, name)
    assert inspect.signature(declared) == inspect.signature(real)
    assert name in vars(LLMClient)
