"""Routes of the OpenAI API: chat completions with server-sent events, embeddings, models."""

import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from mongars import telemetry
from mongars.errors import ModelNotFoundError, MongarsError
from mongars.records import ReplyPiece
from mongars.registry.manifest import UNSERVABLE, AdapterManifest
from mongars.serving.http.chats import conversation_id, is_remembered
from mongars.serving.http.envelope import error_json
from mongars.serving.http.schemas import (
    CHAT_MODEL,
    ENCODER_MODEL,
    ChatAnswer,
    ChatRequest,
    EmbeddingsRequest,
    embeddings_json,
    list_json,
)
from mongars.serving.http.services import Services, ServicesDep, UserDep

router = APIRouter(prefix="/v1")
SHORT_DIGEST = 12
DONE = "data: [DONE]\n\n"
STARTED = int(time.time())
_CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "mongars"}
_request_duration = telemetry.meter.create_histogram(telemetry.REQUEST_DURATION, unit="s")
_first_token = telemetry.meter.create_histogram(telemetry.TIME_TO_FIRST_TOKEN, unit="s")
_tokens = telemetry.meter.create_histogram(telemetry.TOKEN_USAGE, unit="{token}")


@router.post("/chat/completions")
async def chat_completions(request: ChatRequest, http: Request, services: ServicesDep, user: UserDep) -> Response:
    """Answer a chat, whole or as a stream, and remember it for the user of the key."""
    times = _ChatTimes()
    pieces = services.cortex.answer(
        user.user,
        request.turns(),
        conversation_id=conversation_id(request, http.headers, user.user),
        sampling=request.sampling(),
        consent=user.consent,
        store=is_remembered(request, http.headers),
        adapter=named_adapter(request.model, CHAT_MODEL),
    )
    answer = ChatAnswer(request.model)
    if not request.stream:
        return await _whole(answer, pieces, times)
    # The first piece is awaited before the head is sent, so that a refusal has its own status.
    try:
        first = await anext(pieces)
    except BaseException:
        await pieces.aclose()
        raise
    usage = bool(request.stream_options and request.stream_options.include_usage)
    return EventStream(_events(answer, first, pieces, times, usage=usage))


@router.post("/embeddings")
async def embeddings(request: EmbeddingsRequest, services: ServicesDep, _: UserDep) -> JSONResponse:
    """Embed texts with the current encoder, or with a named one."""
    adapter = named_adapter(request.model, ENCODER_MODEL)
    result = await services.llm.embed(request.texts(), request.dimensions, adapter)
    return JSONResponse(embeddings_json(result, request))


@router.get("/models")
async def models(services: ServicesDep, _: UserDep) -> dict[str, Any]:
    """List the models that a request may name."""
    return list_json(await _models(services))


@router.get("/models/{model_id}")
async def model(model_id: str, services: ServicesDep, _: UserDep) -> dict[str, Any]:
    """Describe one model."""
    for found in await _models(services):
        if found["id"] == model_id:
            return found
    raise _unknown(model_id)


def named_adapter(model_id: str, current: str) -> str | None:
    """Return the digest that a model id names, None for the current one. Raises ModelNotFoundError."""
    if model_id == current:
        return None
    name, at, digest = model_id.partition("@")
    if name != CHAT_MODEL or not at or len(digest) < SHORT_DIGEST:
        raise _unknown(model_id)
    return digest


def model_list(manifest: AdapterManifest) -> list[dict[str, Any]]:
    """Return the model objects: the two current ones and every servable adapter."""
    named = [
        (f"{CHAT_MODEL}@{ref.digest[:SHORT_DIGEST]}", int(ref.created_at.timestamp()))
        for ref in manifest.adapters
        if ref.state not in UNSERVABLE
    ]
    ids = [(CHAT_MODEL, STARTED), (ENCODER_MODEL, STARTED), *named]
    return [{"id": name, "object": "model", "created": created, "owned_by": "mongars"} for name, created in ids]


async def _models(services: Services) -> list[dict[str, Any]]:
    return model_list(await services.registry.snapshot())


def _unknown(model_id: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"The model {model_id!r} does not exist here.", remedy="GET /v1/models lists the models.", param="model"
    )


class _ChatTimes:
    """Records the time to the first text, the whole time and the tokens of one answer."""

    def __init__(self) -> None:
        self._started, self._has_text = time.monotonic(), False

    def note(self, piece: ReplyPiece) -> None:
        if piece.text and not self._has_text:
            self._has_text = True
            _first_token.record(time.monotonic() - self._started, _CHAT)
        if piece.usage:
            _tokens.record(piece.usage.prompt_tokens, {**_CHAT, "gen_ai.token.type": "input"})
            _tokens.record(piece.usage.completion_tokens, {**_CHAT, "gen_ai.token.type": "output"})

    def end(self) -> None:
        _request_duration.record(time.monotonic() - self._started, _CHAT)


async def _whole(answer: ChatAnswer, pieces: AsyncGenerator[ReplyPiece, None], times: _ChatTimes) -> JSONResponse:
    received: list[ReplyPiece] = []
    async with aclosing(pieces):
        async for piece in pieces:
            times.note(piece)
            received.append(piece)
    times.end()
    return JSONResponse(answer.whole("".join(piece.text for piece in received), received[-1]))


async def _events(
    answer: ChatAnswer,
    first: ReplyPiece,
    rest: AsyncGenerator[ReplyPiece, None],
    times: _ChatTimes,
    *,
    usage: bool,
) -> AsyncGenerator[str, None]:
    """Yield the events of a stream: role, text, reason, usage if requested, [DONE]; or an error event."""
    async with aclosing(rest):
        times.note(first)  # before a slow client takes the first event
        yield _event(answer.chunk(first, {"role": "assistant", "content": ""}, None, usage=usage))
        piece: ReplyPiece | None = first
        try:
            while piece is not None:
                if piece.text:
                    yield _event(answer.chunk(piece, {"content": piece.text}, None, usage=usage))
                if piece.finish_reason:
                    yield _event(answer.chunk(piece, {}, piece.finish_reason, usage=usage))
                    if usage:
                        yield _event(answer.usage_chunk(piece))
                piece = await anext(rest, None)
                if piece is not None:
                    times.note(piece)
        except MongarsError as error:
            yield _event(error_json(error))
            return
    times.end()
    yield DONE


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"


class EventStream(StreamingResponse):
    """Server-sent events whose source is closed when the client leaves, which stops the generation."""

    def __init__(self, events: AsyncGenerator[str, None]) -> None:
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}  # the latter: nginx must not buffer it
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._close = events.aclose

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._close()
