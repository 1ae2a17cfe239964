"""HTTP requests to the deployed application, through the official SDK where it has a method for them."""

import base64
import json
import time

import httpx
import numpy as np
import openai
import pytest

from mongars.errors import PortInUseError
from mongars.serving.app import AppArgs, deploy_ray_service
from tests.ray.serving.conftest import TEXTS

pytestmark = pytest.mark.ray


def test_a_chat_answers_through_the_official_sdk(app):
    answer = app.sdk.chat.completions.create(
        model="mongars", messages=[{"role": "user", "content": "hello"}], max_tokens=8
    )
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens > 0
    assert answer.mongars["conversation"].startswith("conv_")
    assert answer.mongars["digest"] == app.current("chat")
    assert answer._request_id


def test_a_stream_has_one_id_a_role_a_reason_usage_and_an_end(app):
    chunks = list(
        app.sdk.chat.completions.create(
            model="mongars",
            messages=[{"role": "user", "content": "hello"}],
            max_completion_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason in ("stop", "length")
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens > 0
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])


def test_embeddings_are_the_same_as_base64_as_numbers_and_offline(app):
    default = app.sdk.embeddings.create(model="mongars-encoder", input=TEXTS)  # the SDK requests base64
    numbers = app.sdk.embeddings.create(model="mongars-encoder", input=TEXTS, encoding_format="float")
    vectors = np.array([one.embedding for one in default.data])
    np.testing.assert_allclose(vectors, [one.embedding for one in numbers.data], atol=1e-6)
    np.testing.assert_allclose(vectors, app.expected_vectors(default.mongars["digest"]), atol=1e-5)
    raw = app.http.post(
        "/v1/embeddings", json={"model": "mongars-encoder", "input": "hi", "encoding_format": "base64"}
    ).json()
    assert len(base64.b64decode(raw["data"][0]["embedding"])) == 32 * 4


def test_a_conversation_is_listed_searched_exported_and_deleted_for_its_user_only(app):
    answer = app.sdk.chat.completions.create(
        model="mongars", messages=[{"role": "user", "content": "my parrot is called Zebulon"}], max_tokens=4
    )
    conversation = answer.mongars["conversation"]
    listed = app.http.get("/v1/conversations").json()
    assert listed["data"][0]["id"] == conversation
    assert listed["data"][0]["consent"] is True
    messages = app.http.get(f"/v1/conversations/{conversation}/messages", params={"order": "asc"}).json()["data"]
    assert [one["role"] for one in messages] == ["user", "assistant"]
    found = app.http.post("/v1/memory/search", json={"query": "parrot Zebulon", "k": 3}).json()["data"]
    assert found[0]["text"] == "my parrot is called Zebulon"
    lines = [json.loads(line) for line in app.http.get("/v1/users/me/export").text.splitlines()]
    assert conversation in [line["id"] for line in lines]
    with pytest.raises(openai.NotFoundError):
        app.other.get(f"/conversations/{conversation}/messages", cast_to=httpx.Response)
    assert app.http.delete(f"/v1/conversations/{conversation}").json()["deleted"] is True
    assert app.http.get(f"/v1/conversations/{conversation}/messages").status_code == 404


def test_feedback_on_an_answer_and_on_a_memory_is_stored_exported_and_withdrawn(app):
    question = [{"role": "user", "content": "what was my heron called?"}]
    first = app.sdk.chat.completions.create(model="mongars", messages=question, max_tokens=4)
    answer = app.sdk.chat.completions.create(model="mongars", messages=question, max_tokens=4).mongars
    memory = next(one for one in answer["memories"] if one["conversation_id"] == first.mongars["conversation"])
    opinion = {"name": "correction", "value": "It was Ardea.", "message_id": answer["message"]}
    correction = app.http.post("/v1/feedback", json=opinion).json()
    opinion = {
        "name": "retrieval",
        "value": False,
        "conversation_id": answer["conversation"],
        "memory_id": memory["id"],
    }
    assert app.http.post("/v1/feedback", json=opinion).status_code == 200
    lines = [json.loads(line) for line in app.http.get("/v1/users/me/export").text.splitlines()]
    (line,) = (line for line in lines if line["id"] == answer["conversation"])
    assert {each["name"] for each in line["feedback"]} == {"correction", "retrieval"}
    assert {"query": question[0]["content"], "text": "It was Ardea.", "good": True} in line["opinions"]
    with pytest.raises(openai.NotFoundError):
        app.other.post("/feedback", body=opinion, cast_to=httpx.Response)
    assert app.http.delete(f"/v1/feedback/{correction['id']}").json()["deleted"] is True
    assert [each["name"] for each in app.http.get("/v1/feedback").json()["data"]] == ["retrieval"]
    for conversation in (first.mongars["conversation"], answer["conversation"]):
        app.http.delete(f"/v1/conversations/{conversation}")
    assert app.http.get("/v1/feedback").json()["data"] == []


def test_a_profile_belongs_to_its_user_and_is_in_each_exported_conversation(app):
    profile = {"names": ["Ada Byron"], "emails": [], "phones": ["514-555-0123"]}
    assert app.http.put("/v1/users/me/profile", json=profile).json() == {"object": "profile"} | profile
    assert app.http.get("/v1/users/me/profile").json() == {"object": "profile"} | profile
    empty = {"object": "profile", "names": [], "emails": [], "phones": []}
    assert app.other.get("/users/me/profile", cast_to=httpx.Response).json() == empty
    question = [{"role": "user", "content": "good morning"}]
    answer = app.sdk.chat.completions.create(model="mongars", messages=question, max_tokens=4).mongars
    lines = [json.loads(line) for line in app.http.get("/v1/users/me/export").text.splitlines()]
    assert [line["profile"] for line in lines if line["id"] == answer["conversation"]] == [profile]
    refused = app.http.put("/v1/users/me/profile", json={"emails": ["nobody"]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "emails")
    assert app.http.put("/v1/users/me/profile", json={}).json() == empty
    app.http.delete(f"/v1/conversations/{answer['conversation']}")


def test_errors_reach_the_sdk_with_their_code_and_status(app):
    with pytest.raises(openai.NotFoundError) as unknown:
        app.sdk.embeddings.create(model="mongars@" + "f" * 12, input="hi")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError) as closed:
        app.sdk.with_options(api_key="wrong").models.list()
    assert closed.value.code == "invalid_api_key"
    with pytest.raises(openai.PermissionDeniedError):
        app.other.get("/status", cast_to=httpx.Response)


def test_a_second_server_on_the_same_port_is_refused_with_a_remedy(app):
    with pytest.raises(PortInUseError, match="PORT="):
        deploy_ray_service(AppArgs(settings=app.settings), port=app.port)


def test_a_client_that_leaves_a_stream_frees_the_replicas(app):
    chat = {"model": "mongars", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 300}
    waited_for = app.sdk.chat.completions.create(**chat)
    assert waited_for.usage.completion_tokens > 200, "the chat must be long enough to be left"
    stream = app.sdk.chat.completions.create(**chat, stream=True)
    left = next(iter(stream)).mongars["conversation"]
    stream.close()
    deadline = time.monotonic() + 20
    while any(load["chats"] for load in app.http.get("/v1/status").json()["loads"]):
        assert time.monotonic() < deadline, "a chat continues although nobody reads it"
    # Only a reply that was completed is remembered.
    for conversation, status in ((waited_for.mongars["conversation"], 200), (left, 404)):
        assert app.http.get(f"/v1/conversations/{conversation}/messages").status_code == status


def chat(app, *messages, **more):
    """Return the answer to messages of the user and the assistant in turn, and all messages after it."""
    said = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(messages)]
    answer = app.sdk.chat.completions.create(model="mongars", messages=said, max_tokens=4, **more)
    return answer.mongars, [*messages, answer.choices[0].message.content]


def test_a_client_that_sends_its_turns_has_one_conversation_and_is_not_reminded_of_them(app):
    first, said = chat(app, "I keep seven kiwis in a green basket.")
    second, said = chat(app, *said, "How many kiwis are in the basket?")
    again, _ = chat(app, *said[:3])
    assert first["conversation"] == second["conversation"] == again["conversation"]
    path = f"/v1/conversations/{first['conversation']}/messages"
    stored = app.http.get(path, params={"order": "asc"}).json()["data"]
    assert [one["content"] for one in stored] == said, "the question once, and the answer that was made last"
    recalled = {one["id"] for one in second["memories"]}
    assert not recalled & {one["id"] for one in stored}
    assert app.http.delete(f"/v1/conversations/{first['conversation']}").json()["deleted"] is True


def test_a_conversation_that_is_named_puts_its_turns_into_the_prompt(app):
    def prompt_tokens(**more):
        ask = [{"role": "user", "content": "and then?"}]
        answer = app.sdk.chat.completions.create(
            model="mongars", messages=ask, max_tokens=4, extra_body={"store": False, **more}
        )
        assert answer.mongars["turns_left_out"] == 0
        return answer.usage.prompt_tokens

    named, _ = chat(app, "hello there", extra_headers={"X-OpenWebUI-Chat-Id": "42"})
    assert named["message"], "the reply was not empty"
    (one,) = app.http.get("/v1/conversations", params={"limit": 1}).json()["data"]
    assert one["id"] == named["conversation"]
    alone = prompt_tokens()
    assert prompt_tokens(conversation=one["id"]) > alone
    assert prompt_tokens(metadata={"chat_id": "42"}) == prompt_tokens(conversation=one["id"])
    with pytest.raises(openai.NotFoundError):
        app.other.chat.completions.create(
            model="mongars",
            messages=[{"role": "user", "content": "and then?"}],
            extra_body={"conversation": one["id"]},
        )
    app.http.delete(f"/v1/conversations/{one['id']}")


def test_what_the_client_keeps_out_of_the_memory_is_stored_nowhere(app):
    for more in (
        {"extra_body": {"store": False}},
        {"extra_headers": {"X-OpenWebUI-Task": "title_generation"}},
        {"extra_headers": {"X-OpenWebUI-Chat-Id": "local:7"}},
    ):
        assert chat(app, "my PIN is 80814711", **more)[0]["message"] is None
    assert "80814711" not in app.http.get("/v1/users/me/export").text


def test_a_conversation_that_is_deleted_while_it_is_answered_stays_deleted(app):
    first, _ = chat(app, "hello there")
    assert first["message"], "the reply was not empty"
    identity = first["conversation"]
    stream = app.sdk.chat.completions.create(
        model="mongars",
        messages=[{"role": "user", "content": "hello"}],
        max_tokens=300,
        stream=True,
        extra_body={"conversation": identity},
    )
    next(stream)
    assert app.http.delete(f"/v1/conversations/{identity}").json()["deleted"] is True
    assert list(stream), "the answer continues to its end"
    assert app.http.get(f"/v1/conversations/{identity}/messages").status_code == 404


def test_a_user_changes_the_consent_to_training_for_one_conversation_and_for_all(app):
    def is_consented(identity):
        listed = app.http.get("/v1/conversations", params={"limit": 100}).json()["data"]
        return {one["id"]: one["consent"] for one in listed}[identity]

    identity = chat(app, "hello there")[0]["conversation"]
    assert (app.http.get("/v1/users/me/consent").json()["consent"], is_consented(identity)) == (None, True)
    assert app.http.post(f"/v1/conversations/{identity}", json={"consent": False}).status_code == 200
    assert not is_consented(identity)
    assert app.http.put("/v1/users/me/consent", json={"consent": True}).json()["changed_conversations"] == 1
    assert is_consented(identity)
    assert app.http.put("/v1/users/me/consent", json={"consent": False}).json()["changed_conversations"] >= 1
    assert not is_consented(chat(app, "hello there")[0]["conversation"])
    with pytest.raises(openai.NotFoundError):
        app.other.post(f"/conversations/{identity}", body={"consent": True}, cast_to=httpx.Response)
    assert app.http.put("/v1/users/me/consent", json={"consent": "yes"}).status_code == 400
    app.http.put("/v1/users/me/consent", json={"consent": True})


def test_health_readiness_and_metrics_answer_without_a_key(app):
    for path in ("/healthz", "/readyz", "/metrics"):
        assert httpx.get(app.url + path).status_code == 200
    text = httpx.get(app.url + "/metrics").text
    assert "mongars_adapter_generation" in text
    assert "http_server_request_duration" in text


def test_everything_of_a_user_is_erased_with_a_receipt(app):
    chat(app, "forget this")
    assert app.http.get("/v1/conversations").json()["data"]
    under_way = app.sdk.chat.completions.create(
        model="mongars", messages=[{"role": "user", "content": "hello"}], max_tokens=300, stream=True
    )
    next(under_way)
    receipt = app.http.delete("/v1/users/me/data")
    assert receipt.status_code == 202
    assert receipt.json()["object"] == "erasure"
    assert sum(receipt.json()["removed"].values()) > 0
    assert list(under_way), "the answer continues to its end"
    assert app.http.get("/v1/conversations").json()["data"] == []
