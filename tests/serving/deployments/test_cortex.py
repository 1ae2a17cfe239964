"""The Cortex of the ingress: a memory and a model behind handles, which may be gone."""

import dataclasses

import pytest
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError

from mongars.conversation.http_backends import OllamaBackend, OpenAIBackend
from mongars.errors import ModelNotFoundError, OverloadedError, SettingsError, UnavailableError
from mongars.memory.hippocampus import Recall
from mongars.records import AdapterStamp, GenerationPiece, Memory, Turn, Usage, now
from mongars.serving.deployments.args import AppArgs
from mongars.serving.deployments.clients import LLMClient
from mongars.serving.deployments.cortex import backends, connected_cortex, token_counter
from mongars.serving.deployments.memory import MemoryClient
from mongars.settings import Settings

CHAT, ENCODER = AdapterStamp(3), AdapterStamp(3, "enc", "e" * 64)
MEMORY = Memory("msg_1", "ada", "conv_0", "user", "My cat is Tom.", now())
PIECES = (GenerationPiece("Tom", CHAT), GenerationPiece(".", CHAT, "stop", Usage(9, 2)))


class Handle:
    """A deployment's handle: `offers` maps its methods to what they answer, or to an error."""

    def __init__(self, **offers):
        self.offers, self.calls, self.streams = offers, [], []

    def options(self, **_):
        return self

    def __getattr__(self, method):
        return Method(self, method)


class Method:
    def __init__(self, handle, name):
        self.handle, self.name = handle, name

    def remote(self, *given, **named):
        self.handle.calls.append((self.name, given, named))
        answer = self.handle.offers[self.name]
        if self.name == "generate":
            self.handle.streams.append(Stream(answer))
            return self.handle.streams[-1]
        return answered(answer)


class Stream:
    def __init__(self, answer):
        self.answer, self.cancelled = answer, False

    async def __aiter__(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        for piece in self.answer:
            yield piece

    def cancel(self):
        self.cancelled = True


async def answered(answer):
    if isinstance(answer, Exception):
        raise answer
    return answer


@pytest.fixture
def args(tmp_path, base_folder):
    return AppArgs.from_settings(Settings(home=tmp_path, base_model=str(base_folder)))


def with_settings(args, **changes):
    return args.model_copy(update={"settings": args.settings.model_copy(update=changes)})


def model(generate=PIECES):
    return LLMClient(Handle(generate=generate, context_tokens=4096))


async def pieces_of(cortex):
    answer = cortex.answer("ada", (Turn("user", "What is my cat called?"),), conversation_id="conv_1")
    return [piece async for piece in answer]


async def test_an_answer_uses_the_memory_and_model_deployments(args):
    recall = Recall((MEMORY,), ENCODER, "conv_1")
    memory = Handle(recall=recall, remember=(dataclasses.replace(MEMORY, id="msg_9"),))
    llm = model()
    pieces = await pieces_of(await connected_cortex(args, MemoryClient(memory), llm))
    assert "".join(piece.text for piece in pieces) == "Tom."
    assert (pieces[-1].message_id, pieces[-1].encoder, pieces[-1].memories) == ("msg_9", ENCODER, (MEMORY,))
    assert [name for name, _, _ in memory.calls] == ["recall", "remember"]
    _, (conversation, user, turns), named = memory.calls[1]
    assert (conversation, user) == ("conv_1", "ada")
    assert named == {"sent": (), "consent": False, "asked_at": turns[0].created_at}
    assert [turn.content for turn in turns] == ["What is my cat called?", "Tom."]
    (request,) = llm.handle.calls[-1][1]
    assert MEMORY.text in request.turns[0].content


@pytest.mark.parametrize(
    ("remote", "ours"), [(RayActorError(), UnavailableError), (BackPressureError(1, 1), OverloadedError)]
)
async def test_a_failing_replica_raises_our_error_and_its_call_is_cancelled(args, remote, ours):
    memory, llm = Handle(recall=Recall((), ENCODER)), model(remote)
    with pytest.raises(ours):
        await pieces_of(await connected_cortex(args, MemoryClient(memory), llm))
    assert llm.handle.streams[0].cancelled
    assert [name for name, _, _ in memory.calls] == ["recall"]


async def test_our_own_error_is_raised_without_its_remote_wrapper(args):
    wrapped = ModelNotFoundError("remote traceback ...")
    wrapped.cause = ModelNotFoundError("No adapter abc.")
    cortex = await connected_cortex(args, MemoryClient(Handle(recall=Recall((), ENCODER))), model(wrapped))
    with pytest.raises(ModelNotFoundError) as caught:
        await pieces_of(cortex)
    assert caught.value is wrapped.cause


def test_the_backends_are_those_of_the_settings(args):
    (serve,) = backends(args, model())
    assert serve.name == "serve"
    http = {"llm_backend": "http", "llm_endpoints": ("http://a/v1", "http://b/v1"), "llm_model": "m"}
    first, second = backends(with_settings(args, **http), model())
    assert isinstance(first, OpenAIBackend) and isinstance(second, OpenAIBackend)
    (ollama,) = backends(with_settings(args, llm_backend="ollama", llm_model="m"), model())
    assert isinstance(ollama, OllamaBackend)


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"llm_backend": "http", "llm_model": "m", "llm_endpoints": ()}, "no address"),
        ({"llm_backend": "http", "llm_endpoints": ("http://a/v1",), "llm_model": None}, "no model"),
        ({"llm_backend": "ollama", "llm_model": None}, "no model"),
    ],
)
def test_a_backend_with_a_missing_setting_is_refused_by_name(args, changes, missing):
    with pytest.raises(SettingsError, match=missing):
        backends(with_settings(args, **changes), model())


def test_tokens_are_counted_as_the_base_reads_them(args, base):
    count = token_counter(args.settings)
    for text in ("", "hello", "how are you today?"):
        assert count(text) == len(base.tokenizer(text, add_special_tokens=False).input_ids)


def test_a_base_without_a_fast_tokenizer_is_refused_by_name(args, tmp_path):
    (tmp_path / "bare").mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        (tmp_path / "bare" / name).write_bytes(b"")
    with pytest.raises(SettingsError, match=r"bare has no tokenizer\.json"):
        token_counter(args.settings.model_copy(update={"base_model": str(tmp_path / "bare")}))
