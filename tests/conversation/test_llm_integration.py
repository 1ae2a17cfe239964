import logging
from contextlib import contextmanager

import pytest

from mongars.conversation.llm_integration import LLMIntegration, ServeBackend
from mongars.errors import BackendError, InputError, OverloadedError, UnavailableError
from mongars.records import AdapterStamp, GenerationPiece, GenerationRequest, Turn

REQUEST = GenerationRequest(id="req_1", turns=(Turn("user", "Hello there"),))
LAST = GenerationPiece("", AdapterStamp(1), "stop")


class Backend:
    def __init__(self, name, *pieces, error=None, ends_at_stop=True):
        self.name, self.pieces, self.error, self.ends_at_stop = name, pieces, error, ends_at_stop

    async def stream(self, request):
        for piece in self.pieces:
            yield piece
        if self.error:
            raise self.error


class Response:
    """What a Serve handle returns for a stream."""

    def __init__(self, pieces, error=None):
        self.pieces, self.error, self.cancelled = pieces, error, False

    async def __aiter__(self):
        for piece in self.pieces:
            yield piece
        if self.error:
            raise self.error

    def cancel(self):
        self.cancelled = True


class Handle:
    def __init__(self, response):
        self.response, self.streaming = response, False

    def options(self, *, stream):
        self.streaming = stream
        return self

    @property
    def generate(self):
        return self

    def remote(self, request):
        return self.response


async def collect(stream):
    return [piece async for piece in stream]


async def test_the_next_backend_takes_over_from_an_unavailable_one_without_logging_text(caplog):
    caplog.set_level(logging.DEBUG)
    down, up = Backend("down", error=OverloadedError("full")), Backend("up", LAST)
    assert await collect(LLMIntegration([down, up]).stream(REQUEST)) == [LAST]
    assert "down is unavailable" in caplog.text
    assert "Hello" not in caplog.text


async def test_another_backend_never_continues_a_stream():
    half = Backend("half", GenerationPiece("It", AdapterStamp(1)), error=BackendError("broke"))
    with pytest.raises(BackendError):
        await collect(LLMIntegration([half, Backend("up", LAST)]).stream(REQUEST))


async def test_an_input_error_is_not_retried_on_another_backend():
    wrong = Backend("wrong", error=InputError("bad"))
    with pytest.raises(InputError):
        await collect(LLMIntegration([wrong, Backend("up", LAST)]).stream(REQUEST))


async def test_the_serve_backend_cancels_its_call_when_closed():
    response = Response([GenerationPiece("It", AdapterStamp(1)), LAST])
    handle = Handle(response)
    stream = ServeBackend(handle).stream(REQUEST)
    await anext(stream)
    await stream.aclose()
    assert handle.streaming
    assert response.cancelled


async def test_errors_of_the_handle_are_translated_and_let_the_next_backend_take_over():
    @contextmanager
    def translated():
        try:
            yield
        except ConnectionError:
            raise UnavailableError("A replica died.") from None

    dead = ServeBackend(Handle(Response([], ConnectionError("reset"))), translated)
    with pytest.raises(UnavailableError):
        await collect(dead.stream(REQUEST))
    assert await collect(LLMIntegration([dead, Backend("up", LAST)]).stream(REQUEST)) == [LAST]


def test_stop_strings_are_guaranteed_only_if_every_backend_guarantees_them():
    ours, other = ServeBackend(Handle(None)), Backend("other", ends_at_stop=False)
    assert LLMIntegration([ours]).ends_at_stop
    assert not LLMIntegration([ours, other]).ends_at_stop
