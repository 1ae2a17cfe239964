import asyncio
import dataclasses
from contextlib import aclosing, contextmanager
from itertools import pairwise

import numpy as np
import pytest
import torch

from mongars.errors import AdapterRefusedError, InputError, ModelNotFoundError, OverloadedError, SettingsError
from mongars.lm.base import load_base
from mongars.lm.cpu import optimize
from mongars.records import AdapterStamp, GenerationRequest, Sampling, Turn
from mongars.serving.engine.engine import Engine, EngineLimits

TEXTS = ["hello there", "how are you today, and what is new?"]
NONE = {"encoder": None, "chat": None}


@pytest.fixture(scope="module")
def packed(base_folder):
    """The base as a replica holds it where oneDNN is the faster library."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimize, "onednn_is_faster", lambda: True)
        return load_base(base_folder, packed=True)


@pytest.fixture(params=["base", "packed"])
def engine(request):
    base = request.getfixturevalue(request.param)
    engine = Engine(base, EngineLimits(chats=2, embeds=2, drain_timeout_s=0.0))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def first(make_adapter):
    return make_adapter(1)


@pytest.fixture(scope="module")
def second(make_adapter):
    return make_adapter(2)


@pytest.fixture(scope="module")
def poet(make_adapter):
    return make_adapter(3, "chat")


def target(adapter):
    return adapter.ref, adapter.folder


def ask(adapter=None, **sampling):
    options = {"max_tokens": 12, **sampling}
    return GenerationRequest("req_1", (Turn("user", "hello"),), Sampling(**options), adapter)


async def reply(engine, request):
    pieces = [piece async for piece in engine.generate(request)]
    return "".join(piece.text for piece in pieces), pieces[-1]


async def drained(engine):
    """Wait for the generating thread to let go of answers that were left, which it does at its next pass."""
    while engine.status()["chats"]:  # noqa: ASYNC110 (a thread of its own has no event for this)
        await asyncio.sleep(0)


def matrix(embeddings):
    return np.frombuffer(embeddings.vectors, dtype="<f4").reshape(embeddings.count, embeddings.dimensions)


def parameters(slot):
    tree = slot.model if slot.kind == "chat" else slot.model._pooler._decoder._inner
    return {id(tensor) for name, tensor in tree.named_parameters() if "lora_" not in name}


async def test_every_slot_shares_the_tensors_of_the_one_base(engine, first, poet):
    engine.adopt(1, {"encoder": target(first), "chat": target(poet)})
    held = set(map(id, engine.base.model.parameters()))
    for kind in ("encoder", "chat"):
        slot = engine.lease(kind).slot
        assert slot.digest is not None
        assert parameters(slot) <= held


async def test_bfloat16_vectors_are_close_to_float32_and_float32_to_the_client(base, first, poet):
    engine = Engine(load_base(base.path, dtype=torch.bfloat16))
    whole = Engine(base)
    try:
        for each in (engine, whole):
            each.adopt(1, {"encoder": target(first), "chat": target(poet)})
        found, expected = [matrix(await each.embed(TEXTS)) for each in (engine, whole)]
        assert not np.array_equal(found, expected)
        assert np.abs(found - expected).max() < 0.02
        assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-6)
        _, last = await reply(engine, ask())
        assert 0 < last.usage.completion_tokens <= 12
        assert {tensor.dtype for tensor in engine.base.model.parameters()} == {torch.bfloat16}
    finally:
        engine.close()
        whole.close()


async def test_an_embedding_is_the_offline_result_of_the_adapter_in_its_stamp(
    engine, first, second, offline_vectors
):
    for generation, adapter in enumerate([first, second], start=1):
        engine.adopt(generation, {**NONE, "encoder": target(adapter)})
        answer = await engine.embed(TEXTS)
        assert answer.stamp == AdapterStamp(generation, adapter.ref.name, adapter.ref.digest, engine.base.digest)
        np.testing.assert_allclose(matrix(answer), offline_vectors(adapter.folder, TEXTS), atol=1e-5)


async def test_the_versions_differ(first, second, offline_vectors):
    vectors = [offline_vectors(folder, TEXTS) for folder in (None, first.folder, second.folder)]
    assert all(np.abs(a - b).max() > 0.01 for a, b in pairwise(vectors))


async def test_without_an_adapter_the_stamp_is_that_of_the_base(engine, offline_vectors):
    engine.adopt(5, NONE)
    answer = await engine.embed(TEXTS)
    assert answer.stamp == AdapterStamp(5, None, None, engine.base.digest)
    np.testing.assert_allclose(matrix(answer), offline_vectors(None, TEXTS), atol=1e-5)
    _, last = await reply(engine, ask())
    assert last.stamp == AdapterStamp(5, None, None, engine.base.digest)


async def test_a_chat_adapter_changes_replies_and_not_the_base(engine, poet):
    before, _ = await reply(engine, ask())
    engine.adopt(1, {**NONE, "chat": target(poet)})
    adapted, last = await reply(engine, ask())
    assert last.stamp.digest == poet.ref.digest
    engine.adopt(2, NONE)
    after, _ = await reply(engine, ask())
    assert adapted != before == after


async def test_a_request_keeps_the_version_that_it_was_admitted_to_through_a_flip(
    engine, first, second, offline_vectors
):
    engine.adopt(1, {**NONE, "encoder": target(first)})
    lease = engine.lease("encoder")
    engine.adopt(2, {**NONE, "encoder": target(second)})
    assert {slot["digest"] for slot in engine.status()["slots"]} == {first.ref.digest, second.ref.digest}
    answer = await engine.embed(TEXTS, lease=lease)
    assert answer.stamp == AdapterStamp(1, first.ref.name, first.ref.digest, engine.base.digest)
    np.testing.assert_allclose(matrix(answer), offline_vectors(first.folder, TEXTS), atol=1e-5)
    assert [slot["digest"] for slot in engine.status()["slots"]] == [second.ref.digest]


async def test_an_older_generation_never_replaces_a_newer_one(engine, first, second):
    engine.adopt(2, {**NONE, "encoder": target(second)})
    assert engine.adopt(1, {**NONE, "encoder": target(first)}) is False
    assert engine.current["encoder"] == second.ref.digest


async def test_a_request_for_an_adapter_that_is_not_served_is_not_found(engine, first):
    with pytest.raises(ModelNotFoundError):
        await reply(engine, ask(adapter="f" * 64))
    engine.adopt(1, {**NONE, "encoder": target(first)})
    with pytest.raises(ModelNotFoundError):  # an encoder is not a chat adapter
        await reply(engine, ask(adapter=first.ref.digest))


async def test_a_revoked_adapter_refuses_requests_and_drops_after_the_last_one(engine, first):
    lease = engine.open(*target(first))
    engine.adopt(3, NONE, revoked=frozenset({first.ref.digest}))
    with pytest.raises(ModelNotFoundError):
        engine.lease("encoder", first.ref.digest)
    assert (await engine.embed(TEXTS, lease=lease)).stamp.digest == first.ref.digest
    assert engine.status()["slots"] == []


async def test_there_are_never_more_slots_than_the_limit(base, make_adapter):
    engine = Engine(base, EngineLimits(slots=2, drain_timeout_s=0.0))
    leases = [engine.open(*target(make_adapter(seed))) for seed in (11, 12)]
    with pytest.raises(OverloadedError, match="2 adapter slots"):
        engine.open(*target(make_adapter(13)))
    leases[0].release()
    leases.append(engine.open(*target(make_adapter(13))))
    assert len(engine.status()["slots"]) == 2
    engine.close()


async def test_a_load_waits_for_a_slot_that_drains(base, make_adapter):
    engine = Engine(base, EngineLimits(slots=1, drain_timeout_s=30.0))
    lease = engine.open(*target(make_adapter(14)))
    load = asyncio.create_task(asyncio.to_thread(engine.open, *target(make_adapter(15))))
    await asyncio.sleep(0)
    lease.release()
    assert (await load).slot.ref.name == "tiny-15"
    engine.close()


async def test_only_a_load_passes_the_load_gate_and_frees_it_when_it_fails(base, make_adapter):
    events = []

    @contextmanager
    def load_gate():
        events.append("acquired")
        try:
            yield
        finally:
            events.append("released")

    engine = Engine(base, load_gate=load_gate)
    good, other = make_adapter(41), make_adapter(42)
    leases = [engine.open(*target(good)) for _ in range(2)]
    assert events == ["acquired", "released"]
    (other.folder / "adapter_model.safetensors").unlink()
    with pytest.raises(AdapterRefusedError):
        engine.open(*target(other))
    assert events == ["acquired", "released"] * 2
    for lease in leases:
        lease.release()
    engine.close()


async def test_an_adapter_whose_files_changed_is_refused_and_the_old_one_stays(engine, first, make_adapter):
    engine.adopt(1, {**NONE, "encoder": target(first)})
    damaged = make_adapter(21)
    (damaged.folder / "card.json").write_text("{}")
    with pytest.raises(AdapterRefusedError, match="changed"):
        engine.adopt(2, {**NONE, "encoder": target(damaged)})
    assert engine.generation == 1
    assert (await engine.embed(TEXTS)).stamp.digest == first.ref.digest


async def test_an_adapter_of_another_base_is_refused(engine, first):
    with pytest.raises(AdapterRefusedError, match="belongs to base"):
        engine.open(dataclasses.replace(first.ref, base_digest="0" * 64), first.folder)


async def test_a_base_without_a_chat_template_is_refused_with_a_remedy(base, monkeypatch):
    monkeypatch.setattr(base.tokenizer, "chat_template", None)
    with pytest.raises(SettingsError, match="chat template"):
        Engine(base)


async def test_the_same_seed_gives_the_same_reply_and_another_seed_another(engine):
    replies = [(await reply(engine, ask(temperature=1.5, top_p=0.95, seed=seed)))[0] for seed in (4, 4, 5)]
    assert replies[0] == replies[1] != replies[2]


async def test_usage_and_finish_reason_describe_the_end_of_a_reply(engine):
    _, last = await reply(engine, ask(max_tokens=3))
    assert last.finish_reason == "length"
    assert last.usage.completion_tokens == 3
    assert last.usage.prompt_tokens > 0


async def test_a_reply_ends_before_its_stop_string(engine):
    whole, _ = await reply(engine, ask(max_tokens=40))
    stop = whole[5:8]
    text, last = await reply(engine, ask(max_tokens=40, stop=(stop,)))
    assert text == whole[: whole.index(stop)]
    assert last.finish_reason == "stop"


async def test_a_prompt_longer_than_the_context_is_refused(engine):
    request = GenerationRequest("req_1", (Turn("user", "hello " * 600),), Sampling())
    with pytest.raises(InputError, match="the model holds 512"):
        await reply(engine, request)


async def test_a_request_over_the_limit_is_refused_and_the_queue_recovers(engine):
    streams = [engine.generate(ask(max_tokens=200)) for _ in range(2)]
    firsts = [asyncio.create_task(anext(stream)) for stream in streams]
    await firsts[0]
    with pytest.raises(OverloadedError) as caught:
        await reply(engine, ask())
    assert caught.value.http_status == 429
    for waiting in firsts:
        await waiting
    for stream in streams:
        await stream.aclose()
    await drained(engine)
    text, _ = await reply(engine, ask())
    assert text


async def test_a_client_that_leaves_frees_the_thread_and_the_slot(engine, poet):
    engine.adopt(1, {**NONE, "chat": target(poet)})
    async with aclosing(engine.generate(ask(max_tokens=10_000))) as pieces:
        first_piece = await anext(pieces)
        assert first_piece.text
    await drained(engine)
    assert engine.status()["slots"][0]["in_flight"] == 0


async def test_a_reply_leases_its_slot_when_it_starts_and_releases_it_at_its_end(engine, poet):
    engine.adopt(1, {**NONE, "chat": target(poet)})
    leases = []

    async def acquire():
        leases.append(engine.lease("chat"))
        return leases[-1]

    await engine.generate(ask(), acquire).aclose()
    assert not leases, "nobody would have released it"
    assert [piece async for piece in engine.generate(ask(), acquire)]
    await drained(engine)
    assert len(leases) == 1
    assert engine.status()["slots"][0]["in_flight"] == 0


async def test_dimensions_shorten_and_normalise_or_are_refused(engine):
    short = matrix(await engine.embed(TEXTS, dimensions=8))
    assert short.shape == (2, 8)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, atol=1e-5)
    with pytest.raises(InputError):
        await engine.embed(TEXTS, dimensions=33)


async def test_three_slots_suffice_for_a_new_encoder_and_chat_adapter_at_once(base, make_adapter):
    engine = Engine(base, EngineLimits(slots=3, drain_timeout_s=30.0))
    encoders, chats = (
        [make_adapter(seed, kind) for seed in seeds] for kind, seeds in (("encoder", (31, 32)), ("chat", (33, 34)))
    )
    engine.adopt(1, {"encoder": target(encoders[0]), "chat": target(chats[0])})
    leases = [engine.lease("encoder"), engine.lease("chat")]  # a request of each is under way
    adopting = asyncio.create_task(
        asyncio.to_thread(engine.adopt, 3, {"encoder": target(encoders[1]), "chat": target(chats[1])})
    )
    while engine.current["encoder"] == encoders[0].ref.digest:  # noqa: ASYNC110 (a thread loads it)
        await asyncio.sleep(0)
    assert engine.generation == 1  # the chat adapter waits for a slot, and the replica does not claim more
    assert len(engine.status()["slots"]) == 3
    for lease in leases:
        lease.release()
    assert await adopting
    assert engine.generation == 3
    assert engine.current == {"encoder": encoders[1].ref.digest, "chat": chats[1].ref.digest}
    engine.close()


async def test_a_kind_that_cannot_be_loaded_keeps_its_version_and_generation(engine, first, second, make_adapter):
    engine.adopt(1, {**NONE, "encoder": target(first)})
    damaged = make_adapter(35, "chat")
    (damaged.folder / "card.json").write_text("{}")
    with pytest.raises(AdapterRefusedError):
        engine.adopt(2, {"encoder": target(second), "chat": target(damaged)})
    assert engine.generation == 1
    assert engine.current["chat"] is None
    assert engine.lease("chat").stamp.generation == 1
    assert engine.adopt(3, {"encoder": target(second), "chat": None})
    assert engine.generation == 3


async def test_a_revoked_adapter_refuses_requests_even_if_its_replacement_fails(engine, first, make_adapter):
    engine.adopt(1, {**NONE, "encoder": target(first)})
    damaged = make_adapter(36)
    (damaged.folder / "card.json").write_text("{}")
    with pytest.raises(AdapterRefusedError):
        engine.adopt(2, {**NONE, "encoder": target(damaged)}, revoked=frozenset({first.ref.digest}))
    with pytest.raises(ModelNotFoundError):
        engine.lease("encoder")
