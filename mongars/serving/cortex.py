"""CortexDeployment: conversation and memory as a Ray Serve replica.

Owns the making of PersistenceRepository, MemoryIndex, TieredCache, Hippocampus and Cortex from the settings. Must
not know HTTP. SQL and files run on threads, never on the event loop.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from tokenizers import Tokenizer

from mongars import telemetry
from mongars.conversation.bouche import Bouche
from mongars.conversation.cortex import Cortex, CortexLimits
from mongars.conversation.http_backends import OllamaBackend, OpenAIBackend
from mongars.conversation.llm_integration import ChatBackend, LLMIntegration, ServeBackend
from mongars.conversation.prompt import PromptBudget, count_by_characters
from mongars.errors import MongarsError, SettingsError
from mongars.memory.cache import FileTier, MemoryTier, TieredCache
from mongars.memory.hippocampus import Hippocampus
from mongars.memory.index import MemoryIndex
from mongars.memory.pages import ConversationRow, Page, PageQuery
from mongars.memory.persistence import PersistenceRepository
from mongars.neurons.base import base_folder
from mongars.records import AdapterStamp, Conversation, Feedback, Memory, Profile, ReplyPiece, Sampling, Turn
from mongars.serving.args import AppArgs
from mongars.serving.clients import LLMClient, direct
from mongars.settings import Settings

logger = logging.getLogger(__name__)
REEMBED_CHECK_S = 5.0
"""How often the memory looks whether the encoder changed; meanwhile recall has the lexical lane."""


class CortexDeployment:
    """Answers, remembers, lists and forgets."""

    async def __init__(self, args: AppArgs, llm: Any) -> None:  # type: ignore[misc]  # Serve awaits it
        """Open the database, the index and the cache. Raises SettingsError or UnavailableError."""
        settings = args.settings
        telemetry.configure("mongars-cortex", otlp_endpoint=settings.otlp_endpoint)
        self._llm = LLMClient(llm)
        self._repository = PersistenceRepository(settings.database)
        await asyncio.to_thread(self._repository.create_schema)
        index = await asyncio.to_thread(MemoryIndex, settings.index)
        cache = TieredCache([MemoryTier(), await asyncio.to_thread(FileTier, settings.home / "cache.db")])
        self._hippocampus = Hippocampus(self._repository, index, self._llm, cache)
        limits = CortexLimits(budget=await self._budget(args), recall=args.recall)
        self._cortex = Cortex(self._hippocampus, LLMIntegration(backends(args, direct(llm))), Bouche(), limits)
        self._filling = asyncio.create_task(self._follow_encoder())

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
        """As Cortex.answer."""
        answer = self._cortex.answer(
            user, turns, conversation_id=conversation_id, sampling=sampling, consent=consent, adapter=adapter
        )
        async with aclosing(answer) as pieces:
            async for piece in pieces:
                yield piece

    async def conversations(self, user: str, page: PageQuery) -> Page[ConversationRow]:
        """As PersistenceRepository.conversations."""
        return await asyncio.to_thread(self._repository.conversations, user, page)

    async def messages(self, user: str, conversation_id: str, page: PageQuery) -> Page[Memory]:
        """As PersistenceRepository.messages."""
        return await asyncio.to_thread(self._repository.messages, user, conversation_id, page)

    async def delete_conversation(self, user: str, conversation_id: str) -> None:
        """As Hippocampus.forget_conversation."""
        await self._hippocampus.forget_conversation(user, conversation_id)

    async def search(self, user: str, query: str, k: int) -> tuple[tuple[Memory, ...], AdapterStamp]:
        """As Hippocampus.recall."""
        recall = await self._hippocampus.recall(user, query, k)
        return recall.memories, recall.stamp

    async def give_feedback(self, user: str, **given: Any) -> Feedback:
        """As FeedbackRepository.give."""
        return await asyncio.to_thread(self._repository.feedback.give, user, **given)

    async def feedback(self, user: str, page: PageQuery) -> Page[Feedback]:
        """As FeedbackRepository.page."""
        return await asyncio.to_thread(self._repository.feedback.page, user, page)

    async def withdraw_feedback(self, user: str, feedback_id: str) -> None:
        """As FeedbackRepository.withdraw."""
        await asyncio.to_thread(self._repository.feedback.withdraw, user, feedback_id)

    async def profile(self, user: str) -> Profile:
        """As ProfileRepository.of."""
        return await asyncio.to_thread(self._repository.profiles.of, user)

    async def put_profile(self, user: str, profile: Profile) -> Profile:
        """As ProfileRepository.put."""
        return await asyncio.to_thread(self._repository.profiles.put, user, profile)

    async def export(self, user: str) -> AsyncGenerator[tuple[Conversation, tuple[Feedback, ...]], None]:
        """Yield every conversation of a user, and what the user said of its answers."""
        conversations = self._repository.export_user(user)
        while (conversation := await asyncio.to_thread(next, conversations, None)) is not None:
            yield (
                conversation,
                await asyncio.to_thread(self._repository.feedback.of_conversation, user, conversation.id),
            )

    async def erase(self, user: str) -> dict[str, int]:
        """As Hippocampus.forget_user."""
        return await self._hippocampus.forget_user(user)

    async def ready(self) -> None:
        """Raise UnavailableError unless the database answers."""
        await asyncio.to_thread(self._repository.conversations, "", PageQuery(limit=1))

    async def check_health(self) -> None:
        """Raise when the task that fills the memory's spaces has died: Serve then replaces the replica."""
        if self._filling.done():
            self._filling.result()

    async def _budget(self, args: AppArgs) -> PromptBudget:
        if args.settings.llm_backend != "serve":
            return PromptBudget(tokens=args.context_tokens, count=count_by_characters)
        count = await asyncio.to_thread(token_counter, args.settings)
        return PromptBudget(tokens=await self._llm.context_tokens(), count=count)

    async def _follow_encoder(self) -> None:
        """Fill the space of each new encoder for what was remembered before it, and what the index had missed."""
        filled: AdapterStamp | None = None
        while True:
            try:
                stamp = await self._llm.stamp()
                if filled is None or stamp.digest != filled.digest or self._hippocampus.behind:
                    await self._hippocampus.reembed()
                    filled = stamp
            except MongarsError as error:
                logger.warning("The memory could not be embedded anew (%s); trying again.", error.code)
            await asyncio.sleep(REEMBED_CHECK_S)


def backends(args: AppArgs, llm: Any) -> list[ChatBackend]:
    """Return the configured backends in their order. Raises SettingsError that names what is missing."""
    settings = args.settings
    match settings.llm_backend:
        case "serve":
            return [ServeBackend(llm)]
        case "http":
            if not settings.llm_endpoints:
                raise SettingsError("The http backend has no address.", remedy="Set MONGARS_LLM_ENDPOINTS.")
            return [
                OpenAIBackend(endpoint, _model(settings), api_key=settings.llm_api_key)
                for endpoint in settings.llm_endpoints
            ]
        case "ollama":
            return [OllamaBackend(settings.ollama_host, _model(settings), context_tokens=args.context_tokens)]


def token_counter(settings: Settings) -> Callable[[str], int]:
    """Return a counter of tokens by the base's tokenizer; its weights are not loaded here.

    Raises SettingsError when the base has no fast tokenizer.
    """
    file = base_folder(settings.base_model) / "tokenizer.json"
    if not file.is_file():
        raise SettingsError(f"{file.parent.name} has no tokenizer.json.", remedy="Use a base model that has one.")
    tokenizer = Tokenizer.from_file(str(file))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _model(settings: Settings) -> str:
    if not settings.llm_model:
        raise SettingsError(f"The {settings.llm_backend} backend has no model.", remedy="Set MONGARS_LLM_MODEL.")
    return settings.llm_model
