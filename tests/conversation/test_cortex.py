import logging
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from mongars.conversation.bouche import NO_ANSWER, Bouche
from mongars.conversation.cortex import Cortex, CortexLimits
from mongars.conversation.llm_integration import LLMIntegration
from mongars.conversation.prompt import PromptBudget
from mongars.errors import BackendError
from mongars.records import AdapterStamp, GenerationPiece, Memory, Sampling, Turn, Usage, now

CHAT, ENCODER = AdapterStamp(4), AdapterStamp(4, "enc", "e" * 64)


@dataclass
class Recall:
    memories: tuple[Memory, ...]
    stamp: AdapterStamp


class Notebook:
    """A hippocampus in memory."""

    def __init__(self):
        self.kept, self.recalls = [], []

    async def remember(self, conversation_id, user, turns, *, consent):
        self.kept.append((conversation_id, user, [(turn.role, turn.content) for turn in turns], consent))
        return tuple(
            Memory(f"msg_{turn.role}", user, conversation_id, turn.role, turn.content, now()) for turn in turns
        )

    async def recall(self, user, query, k=4, *, exclude_conversation=None):
        self.recalls.append((user, query, exclude_conversation))
        return Recall((Memory("mem_1", user, "conv_0", "user", "My cat is Tom.", now()),), ENCODER)


class Model:
    name = "model"

    def __init__(self, *texts, fails=False, ends_at_stop=True):
        self.texts, self.fails, self.ends_at_stop = texts, fails, ends_at_stop
        self.requests, self.closed = [], False

    async def stream(self, request):
        self.requests.append(request)
        try:
            for text in self.texts:
                yield GenerationPiece(text, CHAT)
            if self.fails:
                raise BackendError("It broke.")
            yield GenerationPiece("", CHAT, "stop", Usage(9, 2))
        finally:
            self.closed = True


def cortex(model, notebook):
    limits = CortexLimits(budget=PromptBudget(tokens=2000, count=len))
    return Cortex(notebook, LLMIntegration([model]), Bouche(), limits)


ASK = [Turn("user", "What is my cat's name?")]


async def test_an_answer_is_made_with_memories_and_remembered_with_its_question():
    model, notebook = Model("It is ", "Tom."), Notebook()
    answer = cortex(model, notebook).answer("ada", ASK, consent=True, sampling=Sampling(max_tokens=7))
    pieces = [piece async for piece in answer]
    assert "".join(piece.text for piece in pieces) == "It is Tom."
    assert "My cat is Tom." in model.requests[0].turns[0].content
    last = pieces[-1]
    assert (last.finish_reason, last.usage, last.chat, last.encoder) == ("stop", Usage(9, 2), CHAT, ENCODER)
    assert [memory.id for memory in last.memories] == ["mem_1"]
    exchange = [("user", ASK[0].content), ("assistant", "It is Tom.")]
    assert notebook.kept == [(last.conversation_id, "ada", exchange, True)]
    assert last.conversation_id.startswith("conv_")
    assert [piece.message_id for piece in pieces] == [None] * (len(pieces) - 1) + ["msg_assistant"]


async def test_a_reply_that_fails_is_not_remembered():
    notebook = Notebook()
    with pytest.raises(BackendError):
        [piece async for piece in cortex(Model("It", fails=True), notebook).answer("ada", ASK)]
    assert notebook.kept == []


async def test_an_abandoned_reply_stops_the_model_and_is_not_remembered():
    model, notebook = Model("It ", "is ", "Tom."), Notebook()
    async with aclosing(cortex(model, notebook).answer("ada", ASK)) as pieces:
        await anext(pieces)
    assert model.closed
    assert notebook.kept == []


@pytest.mark.parametrize(("ends_at_stop", "text"), [(True, "It is STOP Tom."), (False, "It is ")])
async def test_a_stop_string_is_matched_only_if_the_backend_does_not_guarantee_it(ends_at_stop, text):
    model = Model("It is ST", "OP Tom.", ends_at_stop=ends_at_stop)
    answer = cortex(model, Notebook()).answer("ada", ASK, sampling=Sampling(stop=("STOP",)))
    pieces = [piece async for piece in answer]
    assert "".join(piece.text for piece in pieces) == text
    assert model.requests[0].sampling.stop == ("STOP",)
    assert model.closed


async def test_an_empty_reply_is_announced_but_not_remembered():
    notebook = Notebook()
    pieces = [piece async for piece in cortex(Model("  "), notebook).answer("ada", ASK)]
    assert "".join(piece.text for piece in pieces) == NO_ANSWER
    assert notebook.kept == []
    assert pieces[-1].message_id is None


async def test_a_client_that_sends_the_history_does_not_get_it_as_memories():
    notebook = Notebook()
    history = [Turn("user", "Hi"), Turn("assistant", "Yes?"), *ASK]
    [piece async for piece in cortex(Model("a"), notebook).answer("ada", history, conversation_id="conv_7")]
    [piece async for piece in cortex(Model("a"), notebook).answer("ada", ASK, conversation_id="conv_7")]
    assert [recall[2] for recall in notebook.recalls] == ["conv_7", None]


async def test_text_never_enters_a_log(caplog):
    caplog.set_level(logging.DEBUG)
    [piece async for piece in cortex(Model("It is Tom."), Notebook()).answer("ada", ASK)]
    assert "Tom" not in caplog.text
    assert "cat" not in caplog.text
