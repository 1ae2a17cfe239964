import logging
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from mongars.conversation.bouche import NO_ANSWER, Bouche
from mongars.conversation.cortex import Cortex, CortexLimits
from mongars.conversation.llm_integration import LLMIntegration
from mongars.conversation.prompt import PromptBudget
from mongars.errors import BackendError
from mongars.records import AdapterStamp, ChatRef, GenerationPiece, Memory, Sampling, Turn, Usage, now

CHAT, ENCODER = AdapterStamp(4), AdapterStamp(4, "enc", "e" * 64)


@dataclass
class Recall:
    memories: tuple[Memory, ...]
    stamp: AdapterStamp
    conversation_id: str | None = None
    earlier: tuple[Memory, ...] = ()


class Notebook:
    """A hippocampus in memory."""

    def __init__(self, earlier=(), *, forgets=False):
        self.kept, self.recalls, self.sent = [], [], []
        self.earlier, self.forgets = earlier, forgets

    async def remember(self, conversation_id, user, turns, *, sent, consent, asked_at):
        self.kept.append((conversation_id, user, [(turn.role, turn.content) for turn in turns], consent))
        self.sent.append(sent)
        assert asked_at == turns[0].created_at
        if self.forgets:
            return ()
        return tuple(
            Memory(f"msg_{turn.role}", user, conversation_id, turn.role, turn.content, now()) for turn in turns
        )

    async def recall(self, user, query, k=4, *, chat):
        self.recalls.append((user, query, chat))
        memory = Memory("mem_1", user, "conv_0", "user", "My cat is Tom.", now())
        return Recall((memory,), ENCODER, chat.id, self.earlier)


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


async def test_the_turns_before_the_question_identify_the_chat_for_the_memory():
    notebook = Notebook()
    sent = (Turn("user", "Hi"), Turn("assistant", "Yes?"))
    turns = [Turn("system", "Be brief."), *sent, *ASK, Turn("system", "Speak French.")]
    pieces = [piece async for piece in cortex(Model("a"), notebook).answer("ada", turns)]
    assert notebook.recalls == [("ada", ASK[0].content, ChatRef(None, sent))]
    assert notebook.sent == [sent]
    assert notebook.kept == [
        (pieces[0].conversation_id, "ada", [("user", ASK[0].content), ("assistant", "a")], False)
    ]


async def test_the_turns_of_a_conversation_that_the_client_names_are_in_the_prompt():
    said = [("user", "I am Ada."), ("assistant", "Hello Ada.")]
    earlier = [Memory(f"msg_{role}", "ada", "conv_7", role, text, now()) for role, text in said]
    model, notebook = Model("a"), Notebook(earlier)
    answer = cortex(model, notebook).answer("ada", ASK, conversation_id="conv_7")
    (*_, last) = [piece async for piece in answer]
    assert [turn.content for turn in model.requests[0].turns[1:]] == ["I am Ada.", "Hello Ada.", ASK[0].content]
    assert (last.conversation_id, last.left_out) == ("conv_7", 0)
    assert [one.id for one in last.memories] == ["mem_1", "msg_user", "msg_assistant"]
    assert last.in_prompt == {"mem_1", "msg_user", "msg_assistant"}


async def test_an_exchange_that_may_not_be_stored_is_not_remembered():
    notebook = Notebook()
    (*_, last) = [piece async for piece in cortex(Model("a"), notebook).answer("ada", ASK, store=False)]
    assert (notebook.kept, last.message_id) == ([], None)


async def test_an_answer_whose_user_was_erased_meanwhile_has_no_message():
    (*_, last) = [piece async for piece in cortex(Model("a"), Notebook(forgets=True)).answer("ada", ASK)]
    assert (last.text, last.finish_reason, last.message_id) == ("", "stop", None)


async def test_text_never_enters_a_log(caplog):
    caplog.set_level(logging.DEBUG)
    [piece async for piece in cortex(Model("It is Tom."), Notebook()).answer("ada", ASK)]
    assert "Tom" not in caplog.text
    assert "cat" not in caplog.text
