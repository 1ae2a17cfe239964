"""Cortex: answers a user by recall, prompt, model and Bouche, and remembers the exchange.

It knows neither HTTP, Ray nor SQL. Users' text never enters a log or a span.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from mongars.conversation.bouche import Bouche
from mongars.conversation.llm_integration import LLMIntegration
from mongars.conversation.prompt import SYSTEM_PROMPT, Prompt, PromptBudget, build_prompt, split_question
from mongars.records import (
    AdapterStamp,
    ChatRef,
    GenerationPiece,
    GenerationRequest,
    Memory,
    ReplyPiece,
    Sampling,
    Turn,
    new_id,
    now,
)
from mongars.telemetry import tracer

OF_CONVERSATION = "conversation"
"""Named among the retrievers for a turn that is in the prompt because its conversation continues."""


class Recalled(Protocol):
    """The result of a recall, and its encoder (None when only the lexical retriever ran).

    `conversation_id` is the conversation that the chat continues, None for a new one; `earlier` its messages,
    where the client did not send them.
    """

    @property
    def memories(self) -> tuple[Memory, ...]: ...

    @property
    def stamp(self) -> AdapterStamp | None: ...

    @property
    def conversation_id(self) -> str | None: ...

    @property
    def earlier(self) -> tuple[Memory, ...]: ...


class Remembers(Protocol):
    """The methods of the hippocampus that Cortex calls."""

    async def remember(
        self,
        conversation_id: str,
        user: str,
        turns: Sequence[Turn],
        *,
        sent: Sequence[Turn],
        consent: bool,
        asked_at: datetime,
    ) -> tuple[Memory, ...]: ...

    async def recall(self, user: str, query: str, k: int = 4, *, chat: ChatRef) -> Recalled: ...


@dataclass(frozen=True, slots=True)
class CortexLimits:
    """`budget` bounds prompt and reply together; `recall` is how many memories are searched for."""

    budget: PromptBudget
    recall: int = 4
    system_prompt: str = SYSTEM_PROMPT


class Cortex:
    """Answers with memory. One instance serves any number of users at once."""

    def __init__(self, hippocampus: Remembers, llm: LLMIntegration, bouche: Bouche, limits: CortexLimits) -> None:
        self._hippocampus = hippocampus
        self._llm = llm
        self._bouche = bouche
        self._limits = limits

    async def answer(
        self,
        user: str,
        turns: Sequence[Turn],
        *,
        conversation_id: str | None = None,
        sampling: Sampling | None = None,
        consent: bool = False,
        store: bool = True,
        adapter: str | None = None,
    ) -> AsyncGenerator[ReplyPiece, None]:
        """Yield the reply in pieces; the last one has `finish_reason`, usage and the memories used.

        Without a `conversation_id`, the turns before the user's last one identify the conversation. That one
        and the reply are remembered before the last piece, unless `store` is off, or the user or the conversation
        was erased meanwhile. A reply that is empty, fails or is abandoned leaves nothing. Raises InputError for
        turns that do not end with a user's, and what memory and model raise.
        """
        asked_at = now()
        sampling = sampling or Sampling()
        sent, question = split_question(turns)
        recalled = await self._recall(user, question.content, ChatRef(conversation_id, sent))
        conversation = recalled.conversation_id or new_id("conv")
        prompt = build_prompt(
            [*(Turn(one.role, one.text) for one in recalled.earlier), *turns],
            recalled.memories,
            self._budget(sampling),
            system_prompt=self._limits.system_prompt,
            recall=self._limits.recall,
        )
        request = GenerationRequest(id=new_id("req"), turns=prompt.turns, sampling=sampling, adapter=adapter)
        reply = self._bouche.reply(stop=() if self._llm.ends_at_stop else sampling.stop)
        shown: list[str] = []
        async with aclosing(self._llm.stream(request)) as pieces:
            async for piece in pieces:
                if text := reply.add(piece):
                    shown.append(text)
                    yield _reply(GenerationPiece(text, piece.stamp), conversation, recalled, prompt)
                if reply.is_complete:
                    break
        last, message_id = reply.finish(), None
        if store and not reply.is_empty:
            answer = "".join([*shown, last.text])
            exchange = (Turn("user", question.content, asked_at), Turn("assistant", answer, now()))
            kept = await self._hippocampus.remember(
                conversation, user, exchange, sent=sent, consent=consent, asked_at=asked_at
            )
            message_id = kept[-1].id if kept else None
        yield _reply(last, conversation, recalled, prompt, message_id)

    async def _recall(self, user: str, question: str, chat: ChatRef) -> Recalled:
        with tracer.start_as_current_span("mongars.recall"):
            return await self._hippocampus.recall(user, question, self._limits.recall, chat=chat)

    def _budget(self, sampling: Sampling) -> PromptBudget:
        budget = self._limits.budget
        return PromptBudget(tokens=budget.tokens - sampling.max_tokens, count=budget.count)


def _reply(
    piece: GenerationPiece, conversation: str, recalled: Recalled, prompt: Prompt, message_id: str | None = None
) -> ReplyPiece:
    shown = ReplyPiece(
        text=piece.text,
        conversation_id=conversation,
        chat=piece.stamp,
        encoder=recalled.stamp,
        finish_reason=piece.finish_reason,
        usage=piece.usage,
        message_id=message_id,
    )
    if not piece.finish_reason:
        return shown
    # Of the conversation's messages, the oldest ones are left out.
    turns = [
        replace(one, score=1.0, retriever_scores={OF_CONVERSATION: 1.0})
        for one in recalled.earlier[prompt.left_out :]
    ]
    return replace(
        shown,
        memories=(*prompt.memories, *turns),
        in_prompt=prompt.quoted.union(one.id for one in turns),
        left_out=prompt.left_out,
    )
