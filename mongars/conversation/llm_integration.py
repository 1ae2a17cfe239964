"""LLMIntegration: one stream of pieces, whichever backend generates it, and the backend over our own deployment.

It does not import Ray: a handle is anything with the calls used here. Other servers: `http_backends.py`.
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import Any, Protocol

from mongars.errors import ModelNotFoundError, UnavailableError
from mongars.records import GenerationPiece, GenerationRequest

logger = logging.getLogger(__name__)


class ChatBackend(Protocol):
    """Generates. The last piece has `finish_reason`; failures are MongarsError.

    `ends_at_stop` guarantees that the text ends before the first stop string of the request.
    """

    name: str
    ends_at_stop: bool

    def stream(self, request: GenerationRequest) -> AsyncGenerator[GenerationPiece, None]:
        """Yield the pieces of a reply; closing the generator stops the generation."""
        ...


class LLMIntegration:
    """Streams from the first backend that is available, in the configured order."""

    def __init__(self, backends: Sequence[ChatBackend]) -> None:
        if not backends:
            raise ValueError("LLMIntegration needs at least one backend.")
        self._backends = tuple(backends)

    @property
    def ends_at_stop(self) -> bool:
        """Return whether every backend guarantees that its text ends before a stop string."""
        return all(backend.ends_at_stop for backend in self._backends)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[GenerationPiece, None]:
        """Yield the pieces of a reply.

        When a backend is unavailable before its first piece, the next one takes over, which is logged. Another
        model never continues a stream that has begun. Raises what the last backend raised.
        """
        for position, backend in enumerate(self._backends):
            begun = False
            try:
                async with aclosing(backend.stream(request)) as pieces:
                    async for piece in pieces:
                        begun = True
                        yield piece
            except UnavailableError as error:
                if begun or position == len(self._backends) - 1:
                    raise
                logger.warning("Backend %s is unavailable (%s), trying the next.", backend.name, error.code)
            else:
                return


class StreamingResponse(Protocol):
    """The response of a Serve handle to a streaming call."""

    def __aiter__(self) -> AsyncIterator[GenerationPiece]: ...

    def cancel(self) -> None: ...


class ServeBackend:
    """Generates on our own deployment, through its handle."""

    name = "serve"
    ends_at_stop = True  # the engine must match stop strings in any case, to end the generation

    def __init__(self, handle: Any, translated: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        """`translated` is a context that raises our own errors instead of the handle's."""
        self._handle = handle.options(stream=True)
        self._translated = translated

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[GenerationPiece, None]:
        """Yield the deployment's pieces; closing the generator cancels the call, which frees its replica."""
        response: StreamingResponse = self._handle.generate.remote(request)
        try:
            with self._translated():
                async for piece in response:
                    yield piece
        finally:
            response.cancel()  # a response has no aclose; cancelling a finished one has no effect


def refuse_named_adapter(request: GenerationRequest, backend: str) -> None:
    """Raise ModelNotFoundError when a request names an adapter at a backend without adapters."""
    if request.adapter is not None:
        raise ModelNotFoundError(
            f"The {backend} backend has no adapter {request.adapter[:12]}.",
            remedy="Leave the adapter out, or set MONGARS_LLM_BACKEND=serve.",
            param="model",
        )
