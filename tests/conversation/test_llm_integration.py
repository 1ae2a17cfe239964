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


async def test_an_unavailable_backend_hands_over_before_its_first_piece_and_the_log_has_no_text(caplog):
    caplog.set_level(logging.DEBUG)
    down, up = Backend("down", error=OverloadedError("full")), Backend("up", LAST)
    assert await collect(LLMIntegration([down, up]).stream(REQUEST)) == [LAST]
    assert "down is unavailable" in caplog.text
    assert "Hello" not in caplog.text


async def test_a_stream_that_has_begun_is_never_mended_by_another_backend():
    half = Backend("half", GenerationPiece("It", AdapterStamp(1)), error=BackendError("broke"))
    with pytest.raises(BackendError):
        await collect(LLMIntegration([half, Backend("up", LAST)]).stream(REQUEST))


async def test_a_users_mistake_is_not_tried_again_elsewhere():
    wrong = Backend("wrong", error=InputError("bad"))
    with pytest.raises(InputError):
        await collect(LLMIntegration([wrong, Backend("up", LAST)]).stream(REQUEST))


async def test_the_serve_backend_streams_and_cancels_when_left_early():
    response = Response([GenerationPiece("It", AdapterStamp(1)), LAST])
    handle = Handle(response)
    stream = ServeBackend(handle).stream(REQUEST)
    await anext(stream)
    await stream.aclose()
    assert handle.streaming
    assert response.cancelled


async def test_an_error_of_the_handle_is_translated_and_a_dead_replica_hands_over_to_the_next_backend():
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


def test_text_ends_at_a_stop_string_only_where_every_backend_guarantees_it():
    ours, other = ServeBackend(Handle(None)), Backend("other", ends_at_stop=False)
    assert LLMIntegration([ours]).ends_at_stop
    assert not LLMIntegration([ours, other]).ends_at_stop
