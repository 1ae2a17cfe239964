"""The whole application on a real local Ray: two replicas of a tiny model, real HTTP, the official SDK."""

import base64
import concurrent.futures
import contextlib
import json
import socket
import threading
import time
from types import SimpleNamespace

import httpx
import numpy as np
import openai
import psutil
import pytest
import ray
import torch
from ray import serve

from mongars.conversation.prompt import SYSTEM_PROMPT
from mongars.errors import PortInUseError, UnavailableError
from mongars.lm.adapters import attach_adapter, clone_sharing_tensors
from mongars.records import GenerationRequest, Turn
from mongars.registry import BaseSpec, PublishRequest
from mongars.registry.actor import ACTOR_NAME, BlockingRegistryClient
from mongars.serving.app import APP_NAME, AppArgs, build_app, deploy_ray_service
from mongars.serving.generation.prompt import prompt_tokens
from mongars.serving.http.auth import create_key
from mongars.settings import Settings

pytestmark = pytest.mark.ray
TEXTS = ["hello there", "how are you today, and what is new?"]
NAMESPACE = "mongars-serve-test"  # an actor of its own: another test's registry keeps another folder


@pytest.fixture(scope="module")
def app(local_ray, base_folder, tmp_path_factory):
    """Deploy once; yield the addresses, the keys and the registry."""
    home = tmp_path_factory.mktemp("home")
    settings = Settings(
        home=home, models_dir=home / "models", base_model=str(base_folder), ray_namespace=NAMESPACE
    ).resolved()
    key = create_key(settings.keys_file, "ada", ("chat", "admin"), consent=True)
    other = create_key(settings.keys_file, "bob")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    deploy_ray_service(AppArgs.from_settings(settings, llm_replicas=2), port=port)
    url = f"http://127.0.0.1:{port}"
    yield SimpleNamespace(
        url=url,
        port=port,
        settings=settings,
        sdk=openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0),
        other=openai.OpenAI(base_url=f"{url}/v1", api_key=other, max_retries=0),
        http=httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=30),
        registry=BlockingRegistryClient.connect(NAMESPACE),
    )
    serve.delete(APP_NAME)
    serve.shutdown()


def publish(app, base, adapter):
    ref = adapter.ref
    return app.registry.publish(PublishRequest(adapter.folder, ref.name, BaseSpec.of(base.path), ref.kind))


def settle(app, generation):
    """Wait until both replicas serve `generation`."""
    names = [one.replica for one in app.registry.status().replicas]
    assert len(names) == 2
    status = app.registry.wait_acknowledged(generation, names, 30)
    assert status.skew == 0
    return status


def test_a_chat_answers_through_the_official_sdk(app):
    answer = app.sdk.chat.completions.create(
        model="mongars", messages=[{"role": "user", "content": "hello"}], max_tokens=8
    )
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens > 0
    assert answer.mongars["conversation"].startswith("conv_")
    assert answer.mongars["digest"] is None
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


def test_embeddings_are_the_same_as_base64_and_as_numbers_and_as_offline(app, offline_vectors):
    default = app.sdk.embeddings.create(model="mongars-encoder", input=TEXTS)  # the SDK asks for base64
    numbers = app.sdk.embeddings.create(model="mongars-encoder", input=TEXTS, encoding_format="float")
    vectors = np.array([one.embedding for one in default.data])
    np.testing.assert_allclose(vectors, [one.embedding for one in numbers.data], atol=1e-6)
    np.testing.assert_allclose(vectors, offline_vectors(None, TEXTS), atol=1e-5)
    raw = app.http.post(
        "/v1/embeddings", json={"model": "mongars-encoder", "input": "hi", "encoding_format": "base64"}
    ).json()
    assert len(base64.b64decode(raw["data"][0]["embedding"])) == 32 * 4


def test_what_was_said_is_listed_searched_exported_and_deleted_for_its_user_only(app):
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


def test_feedback_on_an_answer_and_on_a_memory_is_kept_exported_and_withdrawn(app):
    asked = [{"role": "user", "content": "what was my heron called?"}]
    first = app.sdk.chat.completions.create(model="mongars", messages=asked, max_tokens=4)
    answer = app.sdk.chat.completions.create(model="mongars", messages=asked, max_tokens=4).mongars
    memory = next(one for one in answer["memories"] if one["conversation_id"] == first.mongars["conversation"])
    told = {"name": "correction", "value": "It was Ardea.", "message_id": answer["message"]}
    correction = app.http.post("/v1/feedback", json=told).json()
    told = {
        "name": "retrieval",
        "value": False,
        "conversation_id": answer["conversation"],
        "memory_id": memory["id"],
    }
    assert app.http.post("/v1/feedback", json=told).status_code == 200
    lines = [json.loads(line) for line in app.http.get("/v1/users/me/export").text.splitlines()]
    (line,) = (line for line in lines if line["id"] == answer["conversation"])
    assert {each["name"] for each in line["feedback"]} == {"correction", "retrieval"}
    assert {"query": asked[0]["content"], "text": "It was Ardea.", "good": True} in line["opinions"]
    with pytest.raises(openai.NotFoundError):
        app.other.post("/feedback", body=told, cast_to=httpx.Response)
    assert app.http.delete(f"/v1/feedback/{correction['id']}").json()["deleted"] is True
    assert [each["name"] for each in app.http.get("/v1/feedback").json()["data"]] == ["retrieval"]
    for conversation in (first.mongars["conversation"], answer["conversation"]):
        app.http.delete(f"/v1/conversations/{conversation}")
    assert app.http.get("/v1/feedback").json()["data"] == []


def test_a_profile_is_the_users_own_and_goes_with_each_exported_conversation(app):
    told = {"names": ["Ada Byron"], "emails": [], "phones": ["514-555-0123"]}
    assert app.http.put("/v1/users/me/profile", json=told).json() == {"object": "profile"} | told
    assert app.http.get("/v1/users/me/profile").json() == {"object": "profile"} | told
    empty = {"object": "profile", "names": [], "emails": [], "phones": []}
    assert app.other.get("/users/me/profile", cast_to=httpx.Response).json() == empty
    asked = [{"role": "user", "content": "good morning"}]
    answer = app.sdk.chat.completions.create(model="mongars", messages=asked, max_tokens=4).mongars
    lines = [json.loads(line) for line in app.http.get("/v1/users/me/export").text.splitlines()]
    assert [line["profile"] for line in lines if line["id"] == answer["conversation"]] == [told]
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
    assert waited_for.usage.completion_tokens > 200, "this chat must be long enough to be left"
    stream = app.sdk.chat.completions.create(**chat, stream=True)
    left = next(iter(stream)).mongars["conversation"]
    stream.close()
    deadline = time.monotonic() + 20
    while any(load["chats"] for load in app.http.get("/v1/status").json()["loads"]):
        assert time.monotonic() < deadline, "a chat goes on although nobody reads it"
    # A reply that was completed is remembered: so the one that was waited for is there, and this one was cut off.
    for conversation, status in ((waited_for.mongars["conversation"], 200), (left, 404)):
        assert app.http.get(f"/v1/conversations/{conversation}/messages").status_code == status


def offline_reply(base, folder, question, tokens):
    """Return the greedy reply to a question without memories, by transformers' own `generate`."""
    model = clone_sharing_tensors(base.model)
    if folder is not None:
        model = attach_adapter(model, folder)
    request = GenerationRequest("offline", (Turn("system", SYSTEM_PROMPT), Turn("user", question)))
    ids = torch.tensor([prompt_tokens(base.tokenizer, request)])
    with torch.inference_mode():
        whole = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False
        )
    text = base.tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)
    return text.strip().rstrip("\N{REPLACEMENT CHARACTER}")  # half a character at the end is never streamed


def test_publishing_under_load_fails_nothing_and_each_answer_is_what_its_version_gives(
    app, base, make_adapter, offline_vectors
):
    # Twenty versions, every fifth of them for chat, and eight clients.
    adapters = [make_adapter(seed, "encoder" if seed % 5 else "chat") for seed in range(101, 121)]
    poets = {adapter.ref.digest: adapter.folder for adapter in adapters if adapter.ref.kind == "chat"}
    replies = {
        digest: offline_reply(base, folder, "hello", 8) for digest, folder in (*poets.items(), (None, None))
    }
    assert len(set(replies.values())) == len(replies), "each version must say something else"
    truth = {None: offline_vectors(None, TEXTS)}
    encoders = [adapter for adapter in adapters if adapter.ref.kind == "encoder"]
    truth |= {adapter.ref.digest: offline_vectors(adapter.folder, TEXTS) for adapter in encoders}
    answers, chats, failures, over = [], [], [], threading.Event()

    def embed():
        while not over.is_set():
            try:
                answers.append(app.sdk.embeddings.create(model="mongars-encoder", input=TEXTS))
            except openai.OpenAIError as error:
                failures.append(error)

    def chat(user):
        key = create_key(app.settings.keys_file, user)
        sdk = app.sdk.with_options(api_key=key)
        while not over.is_set():
            try:
                chunks = list(
                    sdk.chat.completions.create(
                        model="mongars", messages=[{"role": "user", "content": "hello"}], max_tokens=8, stream=True
                    )
                )
                (digest,) = {chunk.mongars["digest"] for chunk in chunks}  # from the first piece to the last
                chats.append((digest, "".join(chunk.choices[0].delta.content or "" for chunk in chunks)))
                # What was said would be a memory in the next prompt, which the offline reply has not.
                sdk.delete("/users/me/data", cast_to=httpx.Response)
            except openai.OpenAIError as error:
                failures.append(error)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        workers = [pool.submit(embed) for _ in range(4)] + [pool.submit(chat, f"poet-{n}") for n in range(4)]
        try:
            for adapter in adapters:
                publication = publish(app, base, adapter)
                settle(app, publication.generation)
                count = len(answers)
                while len(answers) < count + 8 and not failures:
                    over.wait(0.01)
        finally:
            over.set()
        for worker in workers:
            worker.result()
    assert failures == []
    wrong = [
        answer.mongars
        for answer in answers
        if not np.allclose([one.embedding for one in answer.data], truth[answer.mongars["digest"]], atol=1e-5)
    ]
    assert wrong == []
    assert {answer.mongars["digest"] for answer in answers} >= {adapter.ref.digest for adapter in encoders}
    assert [(digest, said) for digest, said in chats if said != replies[digest]] == []
    assert len({digest for digest, _ in chats} & poets.keys()) > 1


def test_a_named_adapter_answers_although_it_is_not_current_and_a_rollback_is_a_new_generation(
    app, base, make_adapter, offline_vectors
):
    old, new = make_adapter(51), make_adapter(52)
    publish(app, base, old)
    generation = publish(app, base, new).generation
    settle(app, generation)
    named = app.sdk.embeddings.create(model=f"mongars@{old.ref.digest[:12]}", input=TEXTS)
    assert named.mongars["digest"] == old.ref.digest
    np.testing.assert_allclose(
        [one.embedding for one in named.data], offline_vectors(old.folder, TEXTS), atol=1e-5
    )
    rolled = app.http.post("/v1/adapters/rollback").json()
    assert rolled["generation"] == generation + 1
    assert rolled["adapter"]["digest"] == old.ref.digest
    settle(app, generation + 1)
    assert app.http.get("/v1/status").json()["current"]["encoder"] == old.ref.digest
    promoted = app.http.post(f"/v1/adapters/{new.ref.digest}/promote").json()
    settle(app, promoted["generation"])


def test_an_adapter_that_was_damaged_leaves_the_old_one_serving_and_shows_in_the_status(app, base, make_adapter):
    good, bad = make_adapter(61), make_adapter(62)
    settle(app, publish(app, base, good).generation)
    app.registry.register(PublishRequest(bad.folder, bad.ref.name, BaseSpec.of(base.path)))
    folder = app.settings.encoders_dir / bad.ref.name / bad.ref.digest[:12]
    (folder / "card.json").write_text("{}")
    app.http.post(f"/v1/adapters/{bad.ref.digest}/promote").raise_for_status()
    deadline = time.monotonic() + 30
    while sum(load["load_failures"] for load in app.http.get("/v1/status").json()["loads"]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    answer = app.sdk.embeddings.create(model="mongars-encoder", input=TEXTS)
    assert answer.mongars["digest"] == good.ref.digest
    assert app.http.get("/v1/status").json()["skew"] >= 1


def model_processes():
    """Return the processes of the model's replicas."""
    title = f"ray::ServeReplica:{APP_NAME}:LLMServeDeployment"
    return [one for one in psutil.process_iter(["cmdline"]) if (one.info["cmdline"] or [""])[0].startswith(title)]


def answer_until(app, generation, replicas):
    """Embed again and again until `replicas` replicas serve `generation`, and return the answers."""
    patient, answers = app.sdk.with_options(max_retries=5), []
    deadline = time.monotonic() + 120
    while True:
        answers.append(patient.embeddings.create(model="mongars-encoder", input=TEXTS))
        response = app.http.get("/v1/status")
        loads = response.json()["loads"] if response.is_success else []
        if [load["generation"] for load in loads] == [generation] * replicas:
            return answers
        assert time.monotonic() < deadline, loads


def test_a_replica_killed_in_mid_swap_is_replaced_by_a_current_one_while_the_other_answers(
    app, base, make_adapter, offline_vectors
):
    old, new = make_adapter(71), make_adapter(72)
    settle(app, publish(app, base, old).generation)
    victim, _ = model_processes()
    victim.suspend()  # so it has heard of the new generation at most, and never served it
    generation = publish(app, base, new).generation
    victim.kill()
    answers = answer_until(app, generation, replicas=2)
    truth = {one.ref.digest: offline_vectors(one.folder, TEXTS) for one in (old, new)}
    for answer in answers:
        given = [one.embedding for one in answer.data]
        np.testing.assert_allclose(given, truth[answer.mongars["digest"]], atol=1e-5)
    assert answers[-1].mongars["digest"] == new.ref.digest


def test_an_actor_that_is_killed_for_good_is_made_again_by_the_replicas(app, base, make_adapter):
    before = app.registry.snapshot()
    ray.kill(ray.get_actor(ACTOR_NAME, namespace=NAMESPACE))
    publication = None
    while publication is None:
        with contextlib.suppress(UnavailableError):  # until a replica notices
            publication = publish(app, base, make_adapter(81))
    assert publication.generation == before.generation + 1
    answer_until(app, publication.generation, replicas=2)


def test_health_readiness_and_metrics_answer_without_a_key(app):
    for path in ("/healthz", "/readyz", "/metrics"):
        assert httpx.get(app.url + path).status_code == 200
    text = httpx.get(app.url + "/metrics").text
    assert "mongars_adapter_generation" in text
    assert "http_server_request_duration" in text


def test_everything_of_a_user_is_erased_with_a_receipt(app):
    receipt = app.http.delete("/v1/users/me/data")
    assert receipt.status_code == 202
    assert receipt.json()["object"] == "erasure"
    assert sum(receipt.json()["removed"].values()) > 0
    assert app.http.get("/v1/conversations").json()["data"] == []


def test_a_replica_that_is_added_is_current_before_it_answers(app, base, make_adapter):
    generation = publish(app, base, make_adapter(91)).generation
    answer_until(app, generation, replicas=2)
    patient, answers, over = app.sdk.with_options(max_retries=5), [], threading.Event()

    def embed():
        while not over.is_set():
            answers.append(patient.embeddings.create(model="mongars-encoder", input=TEXTS))

    more = AppArgs.from_settings(app.settings, llm_replicas=3)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        worker = pool.submit(embed)
        try:
            serve.run(build_app(more), name=APP_NAME, route_prefix="/")
            answers += answer_until(app, generation, replicas=3)
        finally:
            over.set()
        worker.result()
    assert {answer.mongars["version"] for answer in answers} == {generation}
