"""Backends over HTTP: any OpenAI-compatible server, and Ollama by its native API.

Failures of both become typed errors. Message text is sent only to the configured address and never logged.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from mongars.conversation.llm_integration import refuse_named_adapter
from mongars.errors import BackendError, InputError, ModelNotFoundError, MongarsError, OverloadedError
from mongars.records import AdapterStamp, FinishReason, GenerationPiece, GenerationRequest, Usage

# Connecting is quick or fails; the first token may wait until the server has loaded its model.
TIMEOUT = httpx.Timeout(connect=5.0, read=300.0, write=30.0, pool=30.0)
UNKNOWN = AdapterStamp(generation=0)
CLIENT_ERROR = 400


class OpenAIBackend:
    """Generates on an OpenAI-compatible server. `endpoint` is its base URL, with `/v1`."""

    ends_at_stop = False  # not every server knows the option

    def __init__(
        self, endpoint: str, model: str, *, api_key: str | None = None, client: httpx.AsyncClient | None = None
    ) -> None:
        self.name = f"http:{endpoint}"
        self._endpoint = endpoint.rstrip("/")
        self._model = model
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = client or httpx.AsyncClient(timeout=TIMEOUT)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[GenerationPiece, None]:
        """Yield the server's deltas. The stamp is the server's own if it is a monGARS, else empty.

        A named adapter is requested as `mongars@<digest12>`, so that a server without it answers 404.
        Raises ModelNotFoundError, OverloadedError, InputError or BackendError.
        """
        stamp, reason, usage = UNKNOWN, None, None
        async with _post(
            self._client,
            f"{self._endpoint}/chat/completions",
            self._body(request),
            self._head(request),
            self._missing,
        ) as response:
            async for line in _lines(response):
                if not line.startswith("data:") or line == "data: [DONE]":
                    continue
                event = _parsed(line.removeprefix("data:"), self.name)
                if "error" in event:
                    raise BackendError(f"{self.name} failed during its answer: {_message(event)}")
                stamp = _stamp(event, stamp)
                usage = _openai_usage(event, usage)
                for choice in event.get("choices", ()):
                    reason = choice.get("finish_reason") or reason
                    if text := choice.get("delta", {}).get("content"):
                        yield GenerationPiece(text=text, stamp=stamp)
        if reason is None:
            raise BackendError(
                f"{self.name} ended its stream before the answer was complete.", remedy="Try again."
            )
        yield GenerationPiece(text="", stamp=stamp, finish_reason=_reason(reason), usage=usage)

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": f"mongars@{request.adapter[:12]}" if request.adapter else self._model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in request.turns],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        return body

    def _head(self, request: GenerationRequest) -> dict[str, str]:
        adapter = {"x-mongars-adapter": request.adapter} if request.adapter else {}
        return {**self._headers, "x-request-id": request.id, **adapter}

    def _missing(self, message: str) -> MongarsError:
        return ModelNotFoundError(
            f"{self.name} does not have the model: {message}",
            remedy="Set MONGARS_LLM_MODEL to one that GET /v1/models lists there.",
            param="model",
        )


class OllamaBackend:
    """Generates on Ollama, by its native API: only that accepts the context length."""

    ends_at_stop = False

    def __init__(
        self, host: str, model: str, *, context_tokens: int, client: httpx.AsyncClient | None = None
    ) -> None:
        self.name = f"ollama:{host}"
        self._host = host.rstrip("/")
        self._model = model
        self._context_tokens = context_tokens
        self._client = client or httpx.AsyncClient(timeout=TIMEOUT)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[GenerationPiece, None]:
        """Yield Ollama's pieces.

        Raises ModelNotFoundError (for a named adapter too), OverloadedError or BackendError. Ollama may also
        report an error in a stream with HTTP status 200.
        """
        refuse_named_adapter(request, "ollama")
        url, headers = f"{self._host}/api/chat", {"x-request-id": request.id}
        async with _post(self._client, url, self._body(request), headers, self._missing) as response:
            async for line in _lines(response):
                event = _parsed(line, self.name)
                if "error" in event:
                    raise BackendError(f"{self.name} failed during its answer: {_message(event)}")
                text = event.get("message", {}).get("content", "")
                if event.get("done"):
                    yield GenerationPiece(
                        text=text,
                        stamp=UNKNOWN,
                        finish_reason=_reason(event.get("done_reason", "stop")),
                        usage=Usage(event.get("prompt_eval_count", 0), event.get("eval_count", 0)),
                    )
                    return
                if text:
                    yield GenerationPiece(text=text, stamp=UNKNOWN)
        raise BackendError(f"{self.name} ended its stream before the answer was complete.", remedy="Try again.")

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        sampling = request.sampling
        options: dict[str, Any] = {
            "num_ctx": self._context_tokens,
            "num_predict": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stop": list(sampling.stop),
        }
        if sampling.seed is not None:
            options["seed"] = sampling.seed
        messages = [{"role": turn.role, "content": turn.content} for turn in request.turns]
        return {"model": self._model, "messages": messages, "stream": True, "options": options}

    def _missing(self, message: str) -> MongarsError:
        return ModelNotFoundError(
            f"Ollama does not have the model {self._model}: {message}",
            remedy=f"Run: ollama pull {self._model}",
            param="model",
        )


@asynccontextmanager
async def _post(
    client: httpx.AsyncClient, url: str, body: dict[str, Any], headers: dict[str, str], missing: Any
) -> AsyncIterator[httpx.Response]:
    """Open a streaming POST; every failure becomes one of our errors."""
    try:
        async with client.stream("POST", url, json=body, headers=headers) as response:
            if response.status_code >= CLIENT_ERROR:
                await response.aread()
                raise _refusal(response, missing)
            yield response
    except httpx.TimeoutException as error:
        raise BackendError(
            f"{url} did not answer in time ({type(error).__name__}).", remedy="Try again."
        ) from None
    except httpx.HTTPError as error:
        raise BackendError(
            f"{url} cannot be reached ({type(error).__name__}).",
            remedy="Start the server, or correct its address.",
        ) from None


def _refusal(response: httpx.Response, missing: Any) -> MongarsError:
    message = _message(_parsed_or_text(response.text))
    host = response.request.url.host
    match response.status_code:
        case 404:
            error: MongarsError = missing(message)
        case 429 | 503:
            error = OverloadedError(f"{host} is busy: {message}")
        case 401 | 403:
            error = BackendError(f"{host} refused the key: {message}", remedy="Set MONGARS_LLM_API_KEY.")
        case status if status < 500:  # noqa: PLR2004 (the end of client errors, RFC 9110 section 15)
            error = InputError(f"{host} refused the request: {message}")
        case status:
            error = BackendError(f"{host} failed with status {status}: {message}")
    return error


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    async for line in response.aiter_lines():
        if stripped := line.strip():
            yield stripped


def _parsed(text: str, name: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        raise BackendError(f"{name} sent something that is not JSON.", remedy="Check the address.") from None
    if not isinstance(value, dict):
        raise BackendError(f"{name} sent JSON that is not an object.", remedy="Check the address.")
    return value


def _parsed_or_text(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return {"error": text[:200]}
    return value if isinstance(value, dict) else {"error": text[:200]}


def _message(event: dict[str, Any]) -> str:
    error = event.get("error", "no reason given")
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)


def _stamp(event: dict[str, Any], known: AdapterStamp) -> AdapterStamp:
    extra = event.get("mongars")
    if not isinstance(extra, dict) or not isinstance(extra.get("version"), int):
        return known
    return AdapterStamp(generation=extra["version"], name=extra.get("adapter"), digest=extra.get("digest"))


def _openai_usage(event: dict[str, Any], known: Usage | None) -> Usage | None:
    usage = event.get("usage")
    if not isinstance(usage, dict):
        return known
    return Usage(usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))


def _reason(name: str) -> FinishReason:
    return "length" if name == "length" else "stop"
