"""Versions that change while requests run: each answer is that of one version, and none fails."""

import concurrent.futures
import contextlib
import threading
import time

import httpx
import numpy as np
import openai
import psutil
import pytest
import ray
import torch

from mongars.conversation.prompt import SYSTEM_PROMPT
from mongars.errors import UnavailableError
from mongars.lm.adapters import attach_adapter, clone_sharing_tensors
from mongars.records import GenerationRequest, Turn
from mongars.registry import AdapterRegistry, BaseSpec, PublishRequest
from mongars.registry.actor import ACTOR_NAME
from mongars.serving.app import APP_NAME
from mongars.serving.generation.prompt import prompt_tokens
from mongars.serving.http.auth import create_key
from tests.ray.serving.conftest import NAMESPACE, TEXTS

pytestmark = pytest.mark.ray


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


def test_publishing_under_load_fails_no_request_and_mixes_no_versions(app, base, make_adapter):
    """Twenty versions, every fifth of them for chat, and eight clients."""
    adapters = [make_adapter(seed, "encoder" if seed % 5 else "chat") for seed in range(101, 121)]
    poets = {adapter.ref.digest: adapter.folder for adapter in adapters if adapter.ref.kind == "chat"}
    replies = {
        digest: offline_reply(base, folder, "hello", 8) for digest, folder in (*poets.items(), (None, None))
    }
    assert len(set(replies.values())) == len(replies), "each version must say something else"
    encoders = [adapter for adapter in adapters if adapter.ref.kind == "encoder"]
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
                # Else the conversation would be a memory in the next prompt, unlike in the offline one.
                sdk.delete("/users/me/data", cast_to=httpx.Response)
            except openai.OpenAIError as error:
                failures.append(error)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        workers = [pool.submit(embed) for _ in range(4)] + [pool.submit(chat, f"poet-{n}") for n in range(4)]
        try:
            for adapter in adapters:
                publication = app.publish(adapter)
                app.settle(publication.generation)
                count = len(answers)
                while len(answers) < count + 8 and not failures:
                    over.wait(0.01)
        finally:
            over.set()
        for worker in workers:
            worker.result()
    for digest in poets:  # the other tests chat with the bare base
        app.settle(AdapterRegistry(app.settings.encoders_dir).revoke(digest).generation)
    assert failures == []
    truth = {digest: app.expected_vectors(digest) for digest in (None, *app.published) if digest not in poets}
    wrong = [
        answer.mongars
        for answer in answers
        if not np.allclose([one.embedding for one in answer.data], truth[answer.mongars["digest"]], atol=1e-5)
    ]
    assert wrong == []
    assert {answer.mongars["digest"] for answer in answers} >= {adapter.ref.digest for adapter in encoders}
    assert [(digest, said) for digest, said in chats if said != replies[digest]] == []
    assert len({digest for digest, _ in chats} & poets.keys()) > 1


def test_a_named_adapter_answers_and_a_rollback_is_a_new_generation(app, make_adapter):
    old, new = make_adapter(51), make_adapter(52)
    app.publish(old)
    generation = app.publish(new).generation
    app.settle(generation)
    named = app.sdk.embeddings.create(model=f"mongars@{old.ref.digest[:12]}", input=TEXTS)
    assert named.mongars["digest"] == old.ref.digest
    np.testing.assert_allclose(
        [one.embedding for one in named.data], app.expected_vectors(old.ref.digest), atol=1e-5
    )
    rolled = app.http.post("/v1/adapters/rollback").json()
    assert rolled["generation"] == generation + 1
    assert rolled["adapter"]["digest"] == old.ref.digest
    app.settle(generation + 1)
    assert app.current("encoder") == old.ref.digest
    promoted = app.http.post(f"/v1/adapters/{new.ref.digest}/promote").json()
    app.settle(promoted["generation"])


def test_a_damaged_adapter_shows_in_the_status_while_the_old_one_serves(app, base, make_adapter):
    good, bad = make_adapter(61), make_adapter(62)
    app.settle(app.publish(good).generation)
    app.registry.register(PublishRequest(bad.folder, bad.ref.name, BaseSpec.of(base.path)))
    folder = app.settings.encoders_dir / bad.ref.name / bad.ref.digest[:12]
    (folder / "card.json").write_text("{}")
    app.http.post(f"/v1/adapters/{bad.ref.digest}/promote").raise_for_status()
    deadline = time.monotonic() + 60
    while any(load["load_failures"] == 0 for load in app.http.get("/v1/status").json()["loads"]):
        assert time.monotonic() < deadline
    answer = app.sdk.embeddings.create(model="mongars-encoder", input=TEXTS)
    assert answer.mongars["digest"] == good.ref.digest
    assert app.http.get("/v1/status").json()["skew"] >= 1
    promoted = app.http.post(f"/v1/adapters/{good.ref.digest}/promote").json()
    app.settle(promoted["generation"])


def model_processes():
    """Return the processes of the model's replicas."""
    title = f"ray::ServeReplica:{APP_NAME}:LLMServeDeployment"
    return [one for one in psutil.process_iter(["cmdline"]) if (one.info["cmdline"] or [""])[0].startswith(title)]


def test_a_replica_killed_in_mid_swap_is_replaced_by_one_that_is_current_before_it_answers(app, make_adapter):
    old, new = make_adapter(71), make_adapter(72)
    app.settle(app.publish(old).generation)
    victim, *_ = model_processes()
    victim.suspend()  # it may learn of the new generation, and never serves it
    generation = app.publish(new).generation
    victim.kill()
    answers = app.embed_until(generation)
    answers += [app.sdk.embeddings.create(model="mongars-encoder", input=TEXTS) for _ in range(20)]  # from both
    truth = {one.ref.digest: app.expected_vectors(one.ref.digest) for one in (old, new)}
    for answer in answers:
        vectors = [one.embedding for one in answer.data]
        np.testing.assert_allclose(vectors, truth[answer.mongars["digest"]], atol=1e-5)
    digests = [answer.mongars["digest"] for answer in answers]
    assert digests[digests.index(new.ref.digest) :] == [new.ref.digest] * (
        len(digests) - digests.index(new.ref.digest)
    )


def test_the_replicas_recreate_a_registry_actor_that_was_killed_for_good(app, make_adapter):
    before = app.registry.snapshot()
    ray.kill(ray.get_actor(ACTOR_NAME, namespace=NAMESPACE))
    publication = None
    while publication is None:
        with contextlib.suppress(UnavailableError):  # until a replica notices
            publication = app.publish(make_adapter(81))
    assert publication.generation == before.generation + 1
    app.embed_until(publication.generation)
