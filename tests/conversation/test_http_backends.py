import json
from dataclasses import replace

import httpx
import pytest

from mongars.conversation.http_backends import OllamaBackend, OpenAIBackend
from mongars.errors import BackendError, InputError, ModelNotFoundError, OverloadedError
from mongars.records import AdapterStamp, GenerationRequest, Sampling, Turn, Usage

REQUEST = GenerationRequest(
    id="req_1", turns=(Turn("user", "Hi"),), sampling=Sampling(max_tokens=5, stop=("X",), seed=3)
)
NAMED = replace(REQUEST, adapter="a" * 64)


class Server:
    """Answers every request with the given body and records the requests."""

    def __init__(self, text="", status=200, error=None):
        self.text, self.status, self.error, self.requests = text, status, error, []
        self.client = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))

    def _answer(self, request):
        self.requests.append(request)
        if self.error:
            raise self.error
        return httpx.Response(self.status, text=self.text)

    @property
    def body(self):
        return json.loads(self.requests[0].content)


def openai(server):
    return OpenAIBackend("http://llm.test/v1/", "small", api_key="k", client=server.client)


def ollama(server):
    return OllamaBackend("http://ollama.test", "tiny", context_tokens=512, client=server.client)


async def collect(backend, request=REQUEST):
    return [piece async for piece in backend.stream(request)]


def sse(*events):
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + ": ping\n\ndata: [DONE]\n\n"


def delta(text=None, reason=None, **extra):
    return {
        "choices": [{"index": 0, "delta": {"content": text} if text else {}, "finish_reason": reason}],
        **extra,
    }


async def test_an_openai_stream_becomes_pieces_with_reason_and_usage():
    usage = {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}}
    server = Server(sse(delta("He"), delta("llo"), delta(reason="length"), usage))
    pieces = await collect(openai(server))
    assert "".join(piece.text for piece in pieces) == "Hello"
    assert (pieces[-1].finish_reason, pieces[-1].usage) == ("length", Usage(4, 2))
    assert server.body["stop"] == ["X"]
    assert server.body["seed"] == 3
    request = server.requests[0]
    assert str(request.url) == "http://llm.test/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer k"
    assert request.headers["x-request-id"] == "req_1"


async def test_a_named_adapter_is_sent_as_model_and_header_and_the_stamp_is_kept():
    extra = {"mongars": {"adapter": "poet", "version": 7, "digest": "a" * 64}}
    server = Server(sse(delta("He", **extra), delta(reason="stop", **extra)))
    pieces = await collect(openai(server), NAMED)
    assert server.body["model"] == "mongars@" + "a" * 12
    assert server.requests[0].headers["x-mongars-adapter"] == "a" * 64
    assert {piece.stamp for piece in pieces} == {AdapterStamp(7, "poet", "a" * 64)}


async def test_an_error_in_a_stream_or_an_incomplete_stream_is_a_backend_error():
    for text in (sse(delta("He"), {"error": {"message": "boom"}}), sse(delta("He")), "data: {not json\n\n"):
        with pytest.raises(BackendError):
            await collect(openai(Server(text)))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, ModelNotFoundError),
        (429, OverloadedError),
        (503, OverloadedError),
        (400, InputError),
        (500, BackendError),
    ],
)
async def test_each_refusal_of_an_openai_server_is_a_typed_error(status, error):
    server = Server(json.dumps({"error": {"message": "no"}}), status)
    with pytest.raises(error, match="no"):
        await collect(openai(server))


async def test_an_unreachable_server_is_named_with_a_remedy():
    with pytest.raises(BackendError, match=r"llm\.test.*Start the server"):
        await collect(openai(Server(error=httpx.ConnectError("refused"))))


async def test_a_refused_key_names_the_setting():
    with pytest.raises(BackendError, match="MONGARS_LLM_API_KEY"):
        await collect(openai(Server("{}", 401)))


async def test_an_ollama_stream_becomes_pieces_and_the_context_length_is_sent():
    lines = [
        {"message": {"content": "He"}, "done": False},
        {"message": {"content": "llo"}, "done": False},
        {"message": {"content": ""}, "done": True, "done_reason": "stop", "prompt_eval_count": 4, "eval_count": 2},
    ]
    server = Server("\n".join(map(json.dumps, lines)))
    pieces = await collect(ollama(server))
    assert "".join(piece.text for piece in pieces) == "Hello"
    assert pieces[-1].usage == Usage(4, 2)
    assert server.body["options"]["num_ctx"] == 512
    assert server.body["stream"] is True


async def test_a_model_that_ollama_lacks_names_the_command_to_pull_it():
    with pytest.raises(ModelNotFoundError, match="ollama pull tiny"):
        await collect(ollama(Server(json.dumps({"error": "model not found"}), 404)))


async def test_an_ollama_error_in_a_stream_with_status_200_is_a_backend_error():
    text = json.dumps({"message": {"content": "He"}}) + "\n" + json.dumps({"error": "out of memory"})
    with pytest.raises(BackendError, match="out of memory"):
        await collect(ollama(Server(text)))


async def test_ollama_refuses_a_named_adapter():
    server = Server()
    with pytest.raises(ModelNotFoundError):
        await collect(ollama(server), NAMED)
    assert server.requests == []
