"""Cortex: answers a user by recall, prompt, model and Bouche, and remembers the exchange.

It knows neither HTTP, Ray nor SQL. Users' text never enters a log or a span.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from mongars.conversation.bouche import Bouche
from mongars.conversation.llm_integration import LLMIntegration
from mongars.conversation.prompt import SYSTEM_PROMPT, PromptBudget, build_prompt
from mongars.records import (
    AdapterStamp,
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


class Recalled(Protocol):
    """The result of a recall, and its encoder (None when only the lexical retriever ran)."""

    @property
    def memories(self) -> tuple[Memory, ...]: ...

    @property
    def stamp(self) -> AdapterStamp | None: ...


class Remembers(Protocol):
    """The methods of the hippocampus that Cortex calls."""

    async def remember(
        self, conversation_id: str, user: str, turns: Sequence[Turn], *, consent: bool
    ) -> tuple[Memory, ...]: ...

    async def recall(
        self, user: str, query: str, k: int = 4, *, exclude_conversation: str | None = None
    ) -> Recalled: ...


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
        adapter: str | None = None,
    ) -> AsyncGenerator[ReplyPiece, None]:
        """Yield the reply in pieces; the last one has `finish_reason`, usage and the memories used.

        The user's last turn and the reply are remembered before the last piece. A reply that is empty, fails or is
        abandoned leaves nothing. Raises InputError for turns that do not end with a user's, and what memory and
        model raise.
        """
        asked_at = now()
        sampling = sampling or Sampling()
        conversation = conversation_id or new_id("conv")
        question = turns[-1].content if turns else ""
        recalled = await self._recall(user, question, turns, conversation)
        prompt = build_prompt(
            turns, recalled.memories, self._budget(sampling), system_prompt=self._limits.system_prompt
        )
        request = GenerationRequest(id=new_id("req"), turns=prompt, sampling=sampling, adapter=adapter)
        reply = self._bouche.reply(stop=() if self._llm.ends_at_stop else sampling.stop)
        shown: list[str] = []
        async with aclosing(self._llm.stream(request)) as pieces:
            async for piece in pieces:
                if text := reply.add(piece):
                    shown.append(text)
                    yield _reply(GenerationPiece(text, piece.stamp), conversation, recalled)
                if reply.is_complete:
                    break
        last, message_id = reply.finish(), None
        if not reply.is_empty:
            answer = "".join([*shown, last.text])
            exchange = (Turn("user", question, asked_at), Turn("assistant", answer, now()))
            kept = await self._hippocampus.remember(conversation, user, exchange, consent=consent)
            message_id = kept[-1].id
        yield _reply(last, conversation, recalled, message_id)

    async def _recall(self, user: str, question: str, turns: Sequence[Turn], conversation: str) -> Recalled:
        # A client that sends the history itself must not also get its turns as memories.
        history_sent = sum(turn.role != "system" for turn in turns) > 1
        exclude = conversation if history_sent else None
        with tracer.start_as_current_span("mongars.recall"):
            return await self._hippocampus.recall(
                user, question, self._limits.recall, exclude_conversation=exclude
            )

    def _budget(self, sampling: Sampling) -> PromptBudget:
        budget = self._limits.budget
        return PromptBudget(tokens=budget.tokens - sampling.max_tokens, count=budget.count)


def _reply(
    piece: GenerationPiece, conversation: str, recalled: Recalled, message_id: str | None = None
) -> ReplyPiece:
    return ReplyPiece(
        text=piece.text,
        conversation_id=conversation,
        chat=piece.stamp,
        encoder=recalled.stamp,
        finish_reason=piece.finish_reason,
        usage=piece.usage,
        memories=recalled.memories if piece.finish_reason else (),
        message_id=message_id,
    )
