"""The routes with small fakes behind them: protocol, errors, headers. No Ray."""

import base64
import json

import httpx
import numpy as np
import pytest
from starlette.requests import ClientDisconnect

from mongars.errors import BackendError, ConversationNotFoundError, FeedbackNotFoundError, OverloadedError
from mongars.memory.hippocampus import Recall
from mongars.memory.pages import ConversationRow, Page
from mongars.records import (
    AdapterRef,
    AdapterStamp,
    Conversation,
    Embeddings,
    Feedback,
    Memory,
    Opinion,
    Profile,
    RegistryStatus,
    ReplyPiece,
    Turn,
    Usage,
    now,
)
from mongars.registry.manifest import AdapterManifest
from mongars.serving.http.auth import KeyRing, create_key
from mongars.serving.http.ingress import create_api
from mongars.serving.http.services import Services

CHAT = AdapterStamp(7)
ENCODER = AdapterStamp(7, "enc", "e" * 64)
REF = AdapterRef("enc", "e" * 64, "encoder", "active", "b" * 64, None, now())
BAD = AdapterRef("bad", "d" * 64, "encoder", "revoked", "b" * 64, None, now())
GIVEN = Feedback("fb_1", "conv_1", "msg_2", "thumbs", True, None, "it was there", now())
MEMORY = Memory("msg_1", "ada", "conv_1", "user", "My cat is Tom.", now(), 0.9, {"lexical": 0.9})


class FakeCortex:
    def __init__(self):
        self.texts, self.fails_at, self.calls, self.closed = ["It is ", "Tom."], None, [], False

    async def answer(self, user, turns, **options):
        self.calls.append((user, turns, options))
        try:
            for number, text in enumerate(self.texts):
                if self.fails_at == number:
                    raise self.error
                yield ReplyPiece(text, "conv_1", CHAT, ENCODER)
            yield ReplyPiece("", "conv_1", CHAT, ENCODER, "stop", Usage(9, 2), (MEMORY,), "msg_2", {"msg_1"}, 3)
        finally:
            self.closed = True

    def fail(self, number, error):
        self.fails_at, self.error = number, error


class FakeMemory:
    def __init__(self):
        self.calls, self.known = [], Profile()

    async def conversations(self, user, page):
        self.calls.append((user, page))
        return Page((ConversationRow("conv_1", user, "mongars", False, now(), 2),), True)

    async def messages(self, user, conversation_id, page):
        if conversation_id != "conv_1":
            raise ConversationNotFoundError("No such conversation.")
        return Page((MEMORY,), False)

    async def delete_conversation(self, user, conversation_id):
        self.calls.append((user, conversation_id))

    async def recall(self, user, query, k):
        return Recall((MEMORY,), ENCODER)

    async def export(self, user):
        learned = {"opinions": (Opinion("a", "b", True),), "profile": Profile(names=("Ada",))}
        yield Conversation("conv_1", user, (Turn("user", "Hé"),), **learned), (GIVEN,)

    async def give_feedback(self, user, **given):
        self.calls.append((user, given))
        return GIVEN

    async def feedback(self, user, page):
        return Page((GIVEN,), False)

    async def withdraw_feedback(self, user, feedback_id):
        if feedback_id != GIVEN.id:
            raise FeedbackNotFoundError("No such feedback.")

    async def profile(self, user):
        return self.known

    async def put_profile(self, user, profile):
        self.known = profile
        return profile

    async def erase(self, user):
        return {"messages": 2}

    async def ready(self):
        return None


class FakeLLM:
    def __init__(self):
        self.error = None

    async def embed(self, texts, dimensions=None, adapter=None):
        if self.error:
            raise self.error
        vectors = np.arange(len(texts) * 2, dtype="<f4").reshape(-1, 2)
        return Embeddings(vectors.tobytes(), len(texts), 2, 5, ENCODER)

    async def stamp(self):
        if self.error:
            raise self.error
        return ENCODER

    async def statuses(self):
        return [{"replica": "r1", "load_failures": 0}]


class FakeRegistry:
    async def snapshot(self):
        return AdapterManifest(adapters=(REF, BAD))

    async def status(self):
        return RegistryStatus(7, {"encoder": REF.digest, "chat": None}, (), 0)


@pytest.fixture
def cortex():
    return FakeCortex()


@pytest.fixture
def memory():
    return FakeMemory()


@pytest.fixture
def llm():
    return FakeLLM()


@pytest.fixture
def http(tmp_path, cortex, memory, llm):
    file = tmp_path / "keys.json"
    keys = {
        scope: create_key(file, "ada", scopes, True)
        for scope, scopes in {"user": ("chat",), "admin": ("chat", "admin")}.items()
    }
    api = create_api(Services(KeyRing(file), cortex, memory, llm, FakeRegistry()), max_body_bytes=5000)

    def client(scope="user"):
        headers = {"authorization": f"Bearer {keys[scope]}"} if scope else {}
        transport = httpx.ASGITransport(api, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers)

    return client


def chat(**changes):
    return {"model": "mongars", "messages": [{"role": "user", "content": "What is it?"}], **changes}


def events(text):
    assert text.endswith("\n\n")
    return [part.removeprefix("data: ") for part in text.strip().split("\n\n")]


def check_error(response, status, code):
    error = response.json()["error"]
    assert response.status_code == status
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["message"]
    assert response.headers["x-request-id"]
    return error


async def test_a_whole_answer_has_the_shape_of_openai_and_our_extension(http, cortex):
    async with http() as client:
        response = await client.post("/v1/chat/completions", json=chat(conversation="conv_1"))
    body = response.json()
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    message = {"role": "assistant", "content": "It is Tom.", "refusal": None}
    assert body["choices"] == [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"] == {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    extra = body["mongars"]
    assert (extra["conversation"], extra["adapter"], extra["version"], extra["digest"]) == (
        "conv_1",
        None,
        7,
        None,
    )
    assert extra["encoder"] == {"adapter": "enc", "version": 7, "digest": "e" * 64}
    assert [memory["id"] for memory in extra["memories"]] == ["msg_1"]
    assert [memory["in_prompt"] for memory in extra["memories"]] == [True]
    assert (extra["message"], extra["turns_left_out"]) == ("msg_2", 3)
    user, _, options = cortex.calls[0]
    assert (user, options["consent"], options["conversation_id"]) == ("ada", True, "conv_1")


async def test_a_stream_has_role_text_reason_usage_and_done_with_one_id(http):
    request = chat(stream=True, stream_options={"include_usage": True})
    async with http() as client:
        response = await client.post("/v1/chat/completions", json=request)
    assert response.headers["content-type"].startswith("text/event-stream")
    *parts, done = events(response.text)
    assert done == "[DONE]"
    chunks = [json.loads(part) for part in parts]
    assert len({(chunk["id"], chunk["created"], chunk["object"]) for chunk in chunks}) == 1
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "It is "}, {"content": "Tom."}, {}]
    assert [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]] == [
        None,
        None,
        None,
        "stop",
    ]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 11
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 4
    assert all(chunk["mongars"]["conversation"] == "conv_1" for chunk in chunks)


async def test_a_stream_without_usage_asked_for_carries_none(http):
    async with http() as client:
        response = await client.post("/v1/chat/completions", json=chat(stream=True))
    assert all("usage" not in json.loads(part) for part in events(response.text)[:-1])


async def test_an_error_before_the_first_piece_has_its_status_and_a_later_one_is_an_event(http, cortex):
    cortex.fail(0, OverloadedError("Full."))
    async with http() as client:
        response = await client.post("/v1/chat/completions", json=chat(stream=True))
        check_error(response, 429, "rate_limit_exceeded")
        assert response.headers["retry-after"] == "1"
        cortex.fail(1, BackendError("It broke."))
        response = await client.post("/v1/chat/completions", json=chat(stream=True))
    assert response.status_code == 200
    last = json.loads(events(response.text)[-1])
    assert last == {
        "error": {"message": "It broke.", "type": "server_error", "param": None, "code": "backend_error"}
    }


async def test_a_client_that_leaves_closes_the_answer(http, cortex):
    from mongars.serving.http.openai import EventStream, _ChatTimes, _events
    from mongars.serving.http.schemas import ChatAnswer

    pieces = cortex.answer("ada", ())
    stream = EventStream(_events(ChatAnswer("mongars"), await anext(pieces), pieces, _ChatTimes(), usage=False))
    sent = []

    async def send(message):
        sent.append(message)
        if len(sent) == 3:
            raise OSError("The client is gone.")

    async def receive():
        return {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnect):
        await stream({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send)
    assert cortex.closed


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"messages": []}, "messages"),
        ({"n": 2}, "n"),
        ({"temperature": 3}, "temperature"),
        ({"tools": [{"type": "function"}]}, None),
        ({"response_format": {"type": "json_object"}}, None),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": "x" * 257}, "stop"),
        ({"stop": ["x", "x" * 257]}, "stop.1"),
        ({"stop": ["x"] * 5}, "stop"),
    ],
)
async def test_unsupported_options_are_refused_in_openais_format(http, changes, param):
    async with http() as client:
        error = check_error(await client.post("/v1/chat/completions", json=chat(**changes)), 400, "invalid_input")
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param


async def test_other_options_of_openais_clients_are_accepted(http, cortex):
    request = chat(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                "name": "x",
            },
        ],
        max_completion_tokens=5,
        max_tokens=9,
        stop="X",
        seed=3,
        n=1,
        user="u",
        metadata={"a": "b"},
        store=False,
        safety_identifier="s",
        response_format={"type": "text"},
        unheard_of=1,
        top_p=0.5,
        temperature=1,
    )
    async with http() as client:
        assert (await client.post("/v1/chat/completions", json=request)).status_code == 200
    _, turns, options = cortex.calls[0]
    assert turns == (Turn("system", "Be brief."), Turn("user", "ab"))
    sampling = options["sampling"]
    assert (sampling.max_tokens, sampling.stop, sampling.seed, sampling.top_p) == (5, ("X",), 3, 0.5)


async def test_embeddings_come_in_order_as_numbers_or_as_little_endian_base64(http):
    request = {"model": "mongars-encoder", "input": ["a", "b"]}
    async with http() as client:
        numbers = (await client.post("/v1/embeddings", json=request)).json()
        coded = (await client.post("/v1/embeddings", json={**request, "encoding_format": "base64"})).json()
    assert [one["embedding"] for one in numbers["data"]] == [[0, 1], [2, 3]]
    decoded = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4").tolist() for one in coded["data"]]
    assert decoded == [[0, 1], [2, 3]]
    assert numbers["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    assert numbers["mongars"] == {"adapter": "enc", "version": 7, "digest": "e" * 64}


@pytest.mark.parametrize("texts", ["", [], ["a", ""], [1, 2], [[1, 2]], ["a"] * 2049])
async def test_texts_that_cannot_be_embedded_are_refused(http, texts):
    async with http() as client:
        response = await client.post("/v1/embeddings", json={"model": "mongars-encoder", "input": texts})
    check_error(
        response,
        413 if len(response.request.content) > 5000 else 400,
        "body_too_large" if len(response.request.content) > 5000 else "invalid_input",
    )


@pytest.mark.parametrize("model", ["gpt-4o", "mongars@short", "mongars-encoder@" + "e" * 12, "mongars"])
async def test_an_unknown_model_is_not_found(http, model):
    async with http() as client:
        response = await client.post("/v1/embeddings", json={"model": model, "input": "a"})
    check_error(response, 404, "model_not_found")


async def test_models_are_the_current_ones_and_every_servable_adapter(http):
    async with http() as client:
        listed = (await client.get("/v1/models")).json()
        one = (await client.get(f"/v1/models/mongars@{'e' * 12}")).json()
        check_error(await client.get("/v1/models/mongars@dddddddddddd"), 404, "model_not_found")
    assert [model["id"] for model in listed["data"]] == ["mongars", "mongars-encoder", "mongars@" + "e" * 12]
    assert set(one) == {"id", "object", "created", "owned_by"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/embeddings"),
        ("GET", "/v1/models"),
        ("GET", "/v1/conversations"),
        ("GET", "/v1/users/me/export"),
        ("DELETE", "/v1/users/me/data"),
        ("POST", "/v1/memory/search"),
        ("GET", "/v1/adapters"),
        ("GET", "/v1/status"),
    ],
)
async def test_no_route_is_open_without_a_key(http, method, path):
    async with http(None) as client:
        response = await client.request(method, path, json={})
    check_error(response, 401, "invalid_api_key")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_operations_need_the_scope_admin(http):
    async with http() as client:
        for path in ("/v1/adapters", "/v1/status"):
            check_error(await client.get(path), 403, "insufficient_scope")
    async with http("admin") as client:
        assert (await client.get("/v1/status")).json()["loads"] == [{"replica": "r1", "load_failures": 0}]
        assert (await client.get("/v1/adapters")).json()["data"][0]["id"] == "e" * 64


async def test_an_unknown_path_or_method_is_answered_in_openais_format(http):
    async with http() as client:
        check_error(await client.get("/v1/nothing"), 404, "not_found")
        check_error(await client.get("/v1/embeddings"), 405, "method_not_allowed")
        check_error(await client.post("/v1/chat/completions", content=b"{not json"), 400, "invalid_input")


async def test_a_body_declared_too_long_is_refused_before_it_is_read(http):
    async with http() as client:
        response = await client.post("/v1/chat/completions", json=chat(user="x" * 6000))
    check_error(response, 413, "body_too_large")


async def test_a_body_without_a_declared_length_is_limited_too(http):
    async def chunks():
        for _ in range(60):
            yield b"x" * 100

    async with http() as client:
        response = await client.post(
            "/v1/chat/completions", content=chunks(), headers={"content-type": "application/json"}
        )
    assert response.request.headers["transfer-encoding"] == "chunked"
    check_error(response, 413, "body_too_large")


async def test_an_unexpected_error_is_a_500_without_details(http, llm):
    llm.error = RuntimeError("secret detail")
    async with http() as client:
        error = check_error(
            await client.post("/v1/embeddings", json={"model": "mongars-encoder", "input": "a"}),
            500,
            "internal_error",
        )
    assert "secret" not in error["message"]


async def test_the_clients_own_request_id_comes_back_unless_it_is_harmful(http):
    async with http() as client:
        kept = await client.get("/healthz", headers={"x-request-id": "abc-1"})
        fresh = await client.get("/healthz", headers={"x-request-id": "x" * 200})
    assert kept.headers["x-request-id"] == "abc-1"
    assert fresh.headers["x-request-id"].startswith("req_")


async def test_conversations_are_listed_page_by_page_and_deleted(http, memory):
    async with http() as client:
        listed = (
            await client.get("/v1/conversations", params={"limit": 1, "order": "asc", "after": "conv_0"})
        ).json()
        check_error(await client.get("/v1/conversations", params={"limit": 101}), 400, "invalid_input")
        check_error(await client.get("/v1/conversations/conv_9/messages"), 404, "conversation_not_found")
        gone = (await client.delete("/v1/conversations/conv_1")).json()
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == ("conv_1", "conv_1", True)
    assert memory.calls[0][1].after == "conv_0"
    assert gone == {"id": "conv_1", "object": "conversation.deleted", "deleted": True}


async def test_search_export_and_erasure_concern_the_keys_own_user(http):
    async with http() as client:
        found = (await client.post("/v1/memory/search", json={"query": "cat"})).json()
        exported = await client.get("/v1/users/me/export")
        receipt = await client.delete("/v1/users/me/data")
    assert (found["data"][0]["text"], found["data"][0]["score"]) == ("My cat is Tom.", 0.9)
    assert exported.headers["content-type"].startswith("application/x-ndjson")
    line = json.loads(exported.text)
    assert line["messages"][0]["content"] == "Hé"
    assert line["opinions"] == [{"query": "a", "text": "b", "good": True}]
    assert line["feedback"][0]["rationale"] == "it was there"
    assert line["profile"] == {"names": ["Ada"], "emails": [], "phones": []}
    assert receipt.status_code == 202
    assert receipt.json()["removed"] == {"messages": 2}


async def test_a_profile_is_put_and_read(http):
    async with http() as client:
        empty = (await client.get("/v1/users/me/profile")).json()
        put = await client.put("/v1/users/me/profile", json={"names": ["Ada Byron"], "phones": ["514-555-0123"]})
        read = (await client.get("/v1/users/me/profile")).json()
        check_error(await client.put("/v1/users/me/profile", json={"name": "Ada"}), 400, "invalid_input")
    assert empty == {"object": "profile", "names": [], "emails": [], "phones": []}
    assert put.json() == read == empty | {"names": ["Ada Byron"], "phones": ["514-555-0123"]}


async def test_feedback_is_given_listed_and_withdrawn(http, memory):
    async with http() as client:
        request = {"name": "rating", "value": 4, "message_id": "msg_2"}
        given = (await client.post("/v1/feedback", json=request)).json()
        listed = (await client.get("/v1/feedback")).json()
        gone = (await client.delete("/v1/feedback/fb_1")).json()
        check_error(await client.delete("/v1/feedback/fb_2"), 404, "feedback_not_found")
    assert (given["object"], given["id"], given["value"]) == ("feedback", "fb_1", True)
    user, sent = memory.calls[0]
    assert (user, sent["name"], sent["value"], sent["message_id"]) == ("ada", "rating", 4, "msg_2")
    assert listed["data"] == [given]
    assert gone == {"id": "fb_1", "object": "feedback.deleted", "deleted": True}


@pytest.mark.parametrize(
    "wrong", [{"name": "stars", "value": 1}, {"name": "thumbs"}, {"name": "thumbs", "value": True, "stars": 5}]
)
async def test_malformed_feedback_is_refused(http, wrong):
    async with http() as client:
        check_error(await client.post("/v1/feedback", json=wrong), 400, "invalid_input")


@pytest.mark.parametrize("value", [True, 1, 1.5, "1"])
async def test_the_type_of_a_value_is_kept(http, memory, value):
    async with http() as client:
        await client.post("/v1/feedback", json={"name": "comment", "value": value, "message_id": "m"})
    (_, sent) = memory.calls[0]
    assert (sent["value"], type(sent["value"]) is bool) == (value, type(value) is bool)


async def test_readiness_follows_the_model(http, llm):
    async with http(None) as client:
        assert (await client.get("/readyz")).json() == {"status": "ready", "generation": 7}
        llm.error = OverloadedError("Full.")
        check_error(await client.get("/readyz"), 429, "rate_limit_exceeded")
