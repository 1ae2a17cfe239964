"""MemoryDeployment: the users' memory as a Ray Serve replica.

SQL and files run on threads, never on the event loop.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Any

from mongars import telemetry
from mongars.errors import MongarsError
from mongars.memory.cache import FileTier, MemoryTier, TieredCache
from mongars.memory.hippocampus import Hippocampus, Recall
from mongars.memory.index.index import MemoryIndex
from mongars.memory.pages import ConversationRow, Page, PageQuery
from mongars.memory.sql.persistence import PersistenceRepository
from mongars.records import ChatRef, Conversation, Feedback, FeedbackName, Memory, Profile, Turn
from mongars.remote import AsyncMethod, StreamMethod
from mongars.serving.deployments.args import AppArgs
from mongars.serving.deployments.clients import DeploymentClient, LLMClient

logger = logging.getLogger(__name__)
REEMBED_CHECK_S = 5.0
"""Period of the check for imports and a new encoder; one that stays for so long is worth re-embedding for."""


class MemoryDeployment:
    """Recalls, remembers, lists and forgets."""

    async def __init__(self, args: AppArgs, llm: Any) -> None:  # type: ignore[misc]  # Serve awaits it
        """Open the database, the index and the cache. Raises SettingsError or UnavailableError."""
        settings = args.settings
        telemetry.configure("mongars-memory", otlp_endpoint=settings.otlp_endpoint)
        self._llm = LLMClient(llm)
        self._repository = PersistenceRepository(settings.database)
        await asyncio.to_thread(self._repository.migrate)
        index = await asyncio.to_thread(MemoryIndex, settings.index)
        cache = TieredCache([MemoryTier(), await asyncio.to_thread(FileTier, settings.home / "cache.db")])
        self._hippocampus = Hippocampus(self._repository, index, self._llm, cache)
        self._filling = asyncio.create_task(self._follow_encoder())

    async def recall(self, user: str, query: str, k: int = 4, *, chat: ChatRef | None = None) -> Recall:
        return await self._hippocampus.recall(user, query, k, chat=chat)

    async def remember(
        self,
        conversation_id: str,
        user: str,
        turns: Sequence[Turn],
        *,
        sent: Sequence[Turn] = (),
        consent: bool,
        asked_at: datetime | None = None,
    ) -> tuple[Memory, ...]:
        return await self._hippocampus.remember(
            conversation_id, user, turns, sent=sent, consent=consent, asked_at=asked_at
        )

    async def conversations(self, user: str, page: PageQuery) -> Page[ConversationRow]:
        return await asyncio.to_thread(self._repository.conversations, user, page)

    async def messages(self, user: str, conversation_id: str, page: PageQuery) -> Page[Memory]:
        return await asyncio.to_thread(self._repository.messages, user, conversation_id, page)

    async def delete_conversation(self, user: str, conversation_id: str) -> None:
        await self._hippocampus.forget_conversation(user, conversation_id)

    async def give_feedback(
        self,
        user: str,
        name: FeedbackName,
        value: bool | float | str,
        *,
        message_id: str | None = None,
        conversation_id: str | None = None,
        memory_id: str | None = None,
        rationale: str | None = None,
    ) -> Feedback:
        return await asyncio.to_thread(
            self._repository.feedback.give,
            user,
            name,
            value,
            message_id=message_id,
            conversation_id=conversation_id,
            memory_id=memory_id,
            rationale=rationale,
        )

    async def feedback(self, user: str, page: PageQuery) -> Page[Feedback]:
        return await asyncio.to_thread(self._repository.feedback.page, user, page)

    async def withdraw_feedback(self, user: str, feedback_id: str) -> None:
        await asyncio.to_thread(self._repository.feedback.withdraw, user, feedback_id)

    async def profile(self, user: str) -> Profile:
        return await asyncio.to_thread(self._repository.profiles.of, user)

    async def put_profile(self, user: str, profile: Profile) -> Profile:
        return await asyncio.to_thread(self._repository.profiles.put, user, profile)

    async def consent(self, user: str) -> bool | None:
        return await asyncio.to_thread(self._repository.consents.of, user)

    async def put_consent(self, user: str, consent: bool) -> int:
        return await asyncio.to_thread(self._repository.consents.put, user, consent)

    async def put_conversation_consent(self, user: str, conversation_id: str, consent: bool) -> None:
        await asyncio.to_thread(self._repository.consents.put_conversation, user, conversation_id, consent)

    async def export(self, user: str) -> AsyncGenerator[tuple[Conversation, tuple[Feedback, ...]], None]:
        """Yield every conversation of a user, with the user's feedback on it."""
        conversations = self._repository.export_user(user)
        while (conversation := await asyncio.to_thread(next, conversations, None)) is not None:
            yield (
                conversation,
                await asyncio.to_thread(self._repository.feedback.of_conversation, user, conversation.id),
            )

    async def erase(self, user: str) -> dict[str, int]:
        return await self._hippocampus.forget_user(user)

    async def ready(self) -> None:
        """Raise UnavailableError unless the database answers."""
        await asyncio.to_thread(self._repository.conversations, "", PageQuery(limit=1))

    async def check_health(self) -> None:
        """Raise when the task that fills the vector spaces has died: Serve then replaces the replica."""
        if self._filling.done():
            self._filling.result()

    async def _follow_encoder(self) -> None:
        while True:
            try:
                await self._hippocampus.follow_encoder()
                await self._hippocampus.index_imports()
            except MongarsError as error:
                logger.warning("The index could not be completed (%s); retrying.", error.code)
            await asyncio.sleep(REEMBED_CHECK_S)


class MemoryClient(DeploymentClient):
    """Client of MemoryDeployment; also the memory of a Cortex."""

    recall = AsyncMethod(MemoryDeployment.recall)
    remember = AsyncMethod(MemoryDeployment.remember)
    conversations = AsyncMethod(MemoryDeployment.conversations)
    messages = AsyncMethod(MemoryDeployment.messages)
    delete_conversation = AsyncMethod(MemoryDeployment.delete_conversation)
    give_feedback = AsyncMethod(MemoryDeployment.give_feedback)
    feedback = AsyncMethod(MemoryDeployment.feedback)
    withdraw_feedback = AsyncMethod(MemoryDeployment.withdraw_feedback)
    profile = AsyncMethod(MemoryDeployment.profile)
    put_profile = AsyncMethod(MemoryDeployment.put_profile)
    consent = AsyncMethod(MemoryDeployment.consent)
    put_consent = AsyncMethod(MemoryDeployment.put_consent)
    put_conversation_consent = AsyncMethod(MemoryDeployment.put_conversation_consent)
    export = StreamMethod(MemoryDeployment.export)
    erase = AsyncMethod(MemoryDeployment.erase)
    ready = AsyncMethod(MemoryDeployment.ready)
