"""Calls from one deployment to another, with our own types and errors on both ends."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from mongars.errors import MongarsError, OverloadedError, UnavailableError
from mongars.records import AdapterStamp, Embeddings
from mongars.remote import AsyncMethod, Call

STATUS_TIMEOUT_S = 5.0


@contextmanager
def our_errors() -> Iterator[None]:
    """Raise our own errors instead of Ray's wrappers around them and of Serve's own."""
    try:
        yield
    except MongarsError as error:
        raise original(error) from None
    except BackPressureError:
        raise OverloadedError("All replicas are busy.", remedy="Try again soon.") from None
    except (RayActorError, DeploymentUnavailableError, ReplicaUnavailableError):
        raise UnavailableError("A replica died or is starting.", remedy="Try again in some seconds.") from None


def original(error: MongarsError) -> MongarsError:
    """Return the error that the replica raised, without the wrappers of remote calls (which have a `cause`)."""
    while isinstance(cause := error.__dict__.get("cause"), MongarsError):
        error = cause
    return error


def direct(handle: Any) -> Any:
    """Return a handle that sends its messages straight to the replica by gRPC, not as objects of Ray.

    This halves the cost of a streamed piece (docs/results/serving.md). Ray guards this gRPC with its
    token, as it guards actors, and pickles the messages, as there.
    """
    return handle.options(_by_reference=False, request_serialization="pickle", response_serialization="pickle")


class DeploymentClient:
    """Calls the methods of a deployment. A subclass declares those that it offers."""

    def __init__(self, handle: Any) -> None:
        self.handle = direct(handle)

    async def call(self, call: Call) -> Any:
        """Return the result of a call."""
        with our_errors():
            return await call.send(self.handle)

    async def stream(self, call: Call) -> AsyncGenerator[Any, None]:
        """Yield the results of a call, and cancel it when the caller leaves early."""
        response = call.send(self.handle.options(stream=True))
        try:
            with our_errors():
                async for each in response:
                    yield each
        finally:
            response.cancel()


class LLMReplica(Protocol):
    """The methods of LLMServeDeployment that LLMClient offers, without an import of torch."""

    async def embed(
        self, texts: Sequence[str], dimensions: int | None = None, adapter: str | None = None
    ) -> Embeddings:
        """Return a vector for each text."""
        ...

    async def stamp(self) -> AdapterStamp:
        """Return the version that would make an embedding now."""
        ...

    async def context_tokens(self) -> int:
        """Return how many tokens prompt and answer may have together."""
        ...


class LLMClient(DeploymentClient):
    """Client of LLMServeDeployment; also the embedder of the hippocampus."""

    embed = AsyncMethod(LLMReplica.embed)
    stamp = AsyncMethod(LLMReplica.stamp)
    context_tokens = AsyncMethod(LLMReplica.context_tokens)

    async def statuses(self) -> list[dict[str, Any]]:
        """Return the status of every replica that answers."""
        with our_errors():
            response = self.handle.broadcast("status")
            return list(await asyncio.to_thread(response.results, timeout_s=STATUS_TIMEOUT_S))
