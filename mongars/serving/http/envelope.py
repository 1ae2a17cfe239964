"""The middleware of every HTTP answer: a request id, the duration metric, and errors in OpenAI's format.

Errors are always `{"error": {"message", "type", "param", "code"}}`. Request bodies never enter a log.
"""

import logging
import re
import time
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mongars import telemetry
from mongars.errors import AuthError, InputError, MongarsError, OverloadedError
from mongars.records import new_id

logger = logging.getLogger(__name__)
REQUEST_ID = "x-request-id"
LONGEST_ID = 128
SERVER_ERROR = 500
_duration = telemetry.meter.create_histogram(telemetry.HTTP_DURATION, unit="s")
_rejections = telemetry.meter.create_counter(telemetry.RATE_LIMIT_REJECTIONS)
_NO_FIELD = re.compile(r"body|query|path|str|constrained-str|list\[.*\]")
"""Parts of pydantic's locations that name the place of a field, or one of its alternatives."""
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


def error_json(error: MongarsError) -> dict[str, Any]:
    """Return the OpenAI error object."""
    return error_object(str(error), error.type, error.param, error.code)


def error_object(message: str, kind: str, param: str | None, code: str) -> dict[str, Any]:
    """Return `{"error": ...}` with the four fields that the specification requires."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_response(error: MongarsError) -> JSONResponse:
    """Return the HTTP answer of an error, with the headers for retries and authentication."""
    headers = {}
    if isinstance(error, OverloadedError):
        _rejections.add(1)
        headers["retry-after"] = str(error.retry_after_s)
    if isinstance(error, AuthError):
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(error_json(error), status_code=error.http_status, headers=headers)


def handle_errors(api: FastAPI) -> None:
    """Answer every expected exception in OpenAI's format."""

    @api.exception_handler(MongarsError)
    async def ours(_: Request, error: MongarsError) -> JSONResponse:
        return error_response(error)

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        # Of the alternatives of a field, the one whose type the value has says what is wrong.
        errors = error.errors()
        first = next((each for each in errors if not each["type"].endswith("_type")), errors[0])
        place = ".".join(str(part) for part in first["loc"] if not _NO_FIELD.fullmatch(str(part)))
        message = f"{place}: {first['msg']}" if place else str(first["msg"])
        return error_response(InputError(message, param=place or None))

    @api.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        code = _CODES.get(error.status_code, "invalid_request_error")
        body = error_object(str(error.detail), "invalid_request_error", None, code)
        return JSONResponse(body, status_code=error.status_code, headers=error.headers)


class Envelope:
    """The outermost middleware: request id, duration, body limit, and unexpected errors."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sender = _TaggedSend(send, _request_id(scope), time.monotonic())
        await self._guarded(scope, self._limited(scope, receive), sender)
        # The pattern instead of the path keeps ids out of metrics.
        route = getattr(scope.get("route"), "path", "unknown")
        _duration.record(
            time.monotonic() - sender.started, {"http.route": route, "http.response.status_code": sender.status}
        )

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """Return a `receive` that raises 413 once the body is too long, declared or chunked."""
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if not declared.isdigit() or max(seen, int(declared)) > self._max_body_bytes:
                raise HTTPException(413, f"The body is longer than {self._max_body_bytes} bytes.")
            return message

        return limited

    async def _guarded(self, scope: Scope, receive: Receive, sender: "_TaggedSend") -> None:
        try:
            await self._app(scope, receive, sender.send)
        except Exception:  # any error: the client gets JSON and an id, the log gets the trace
            logger.exception("Request %s failed.", sender.request_id)
            if sender.status:
                raise  # too late for another answer: the connection is closed
            body = error_object("The server failed.", "server_error", None, "internal_error")
            await JSONResponse(body, status_code=SERVER_ERROR)(scope, receive, sender.send)


class _TaggedSend:
    """A `send` that adds the request id to the head of an answer and records its status."""

    def __init__(self, send: Send, request_id: str, started: float) -> None:
        self._send = send
        self.request_id = request_id
        self.started = started
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (REQUEST_ID.encode(), self.request_id.encode())]
        await self._send(message)


def _request_id(scope: Scope) -> str:
    """Return the client's own id if it is printable ASCII of a sane length, else a new one."""
    given: bytes = dict(scope["headers"]).get(REQUEST_ID.encode(), b"")
    text = given.decode("latin-1")
    return text if 0 < len(text) <= LONGEST_ID and text.isascii() and text.isprintable() else new_id("req")
