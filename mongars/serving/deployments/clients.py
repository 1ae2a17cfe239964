"""Calls from one deployment to another, with our own types and errors on both ends.

Owns the translation of Serve's failures. Must not know what is called for. A stream is cancelled when it is left.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from mongars.errors import MongarsError, OverloadedError, UnavailableError
from mongars.memory.hippocampus import Recall
from mongars.memory.pages import ConversationRow, Page, PageQuery
from mongars.records import (
    AdapterStamp,
    Conversation,
    Embeddings,
    Feedback,
    Memory,
    Profile,
    Turn,
)

STATUS_TIMEOUT_S = 5.0


@contextmanager
def our_errors() -> Iterator[None]:
    """Raise our own errors in place of Ray's wrappers around them and of Serve's own."""
    try:
        yield
    except MongarsError as error:
        raise original(error) from None
    except BackPressureError:
        raise OverloadedError("All replicas are busy.", remedy="Try again soon.") from None
    except (RayActorError, DeploymentUnavailableError, ReplicaUnavailableError):
        raise UnavailableError("A replica died or is starting.", remedy="Try again in some seconds.") from None


def original(error: MongarsError) -> MongarsError:
    """Return our own error out of the wrapper that a remote call puts around it (it has a `cause`)."""
    while isinstance(cause := error.__dict__.get("cause"), MongarsError):
        error = cause
    return error


def direct(handle: Any) -> Any:
    """Return a handle whose messages go straight to the replica by gRPC, not as objects of Ray.

    Pieces of answers cost replica, ingress and proxy about half as much so (docs/results/2026-11-25-serving.md).
    Ray guards this gRPC with its token, as it guards actors, and pickles what goes over it, as there.
    """
    return handle.options(_by_reference=False, request_serialization="pickle", response_serialization="pickle")


class LLMClient:
    """LLMServeDeployment from afar; also the embedder of the hippocampus."""

    def __init__(self, handle: Any) -> None:
        self.handle = direct(handle)

    async def embed(
        self, texts: Sequence[str], dimensions: int | None = None, adapter: str | None = None
    ) -> Embeddings:
        """As LLMServeDeployment.embed."""
        with our_errors():
            return cast(Embeddings, await self.handle.embed.remote(list(texts), dimensions, adapter))

    async def stamp(self) -> AdapterStamp:
        """As LLMServeDeployment.stamp, of one replica."""
        with our_errors():
            return cast(AdapterStamp, await self.handle.stamp.remote())

    async def context_tokens(self) -> int:
        """As LLMServeDeployment.context_tokens."""
        with our_errors():
            return cast(int, await self.handle.context_tokens.remote())

    async def statuses(self) -> list[dict[str, Any]]:
        """Return the status of every replica that answers."""
        with our_errors():
            response = self.handle.broadcast("status")
            return list(await asyncio.to_thread(response.results, timeout_s=STATUS_TIMEOUT_S))


class MemoryClient:
    """MemoryDeployment from afar; also the memory of a Cortex."""

    def __init__(self, handle: Any) -> None:
        self._handle = direct(handle)
        self._streams = self._handle.options(stream=True)

    async def recall(
        self, user: str, query: str, k: int = 4, *, exclude_conversation: str | None = None
    ) -> Recall:
        """As Hippocampus.recall."""
        with our_errors():
            found = self._handle.recall.remote(user, query, k, exclude_conversation=exclude_conversation)
            return cast(Recall, await found)

    async def remember(
        self, conversation_id: str, user: str, turns: Sequence[Turn], *, consent: bool
    ) -> tuple[Memory, ...]:
        """As Hippocampus.remember."""
        with our_errors():
            kept = self._handle.remember.remote(conversation_id, user, tuple(turns), consent=consent)
            return cast(tuple[Memory, ...], await kept)

    async def give_feedback(self, user: str, **given: Any) -> Feedback:
        """As FeedbackRepository.give."""
        with our_errors():
            return cast(Feedback, await self._handle.give_feedback.remote(user, **given))

    async def feedback(self, user: str, page: PageQuery) -> Page[Feedback]:
        """As FeedbackRepository.page."""
        with our_errors():
            return cast(Page[Feedback], await self._handle.feedback.remote(user, page))

    async def withdraw_feedback(self, user: str, feedback_id: str) -> None:
        """As FeedbackRepository.withdraw."""
        with our_errors():
            await self._handle.withdraw_feedback.remote(user, feedback_id)

    async def profile(self, user: str) -> Profile:
        """As ProfileRepository.of."""
        with our_errors():
            return cast(Profile, await self._handle.profile.remote(user))

    async def put_profile(self, user: str, profile: Profile) -> Profile:
        """As ProfileRepository.put."""
        with our_errors():
            return cast(Profile, await self._handle.put_profile.remote(user, profile))

    async def export(self, user: str) -> AsyncGenerator[tuple[Conversation, tuple[Feedback, ...]], None]:
        """As MemoryDeployment.export."""
        response = self._streams.export.remote(user)
        try:
            with our_errors():
                async for exported in response:
                    yield exported
        finally:
            response.cancel()

    async def conversations(self, user: str, page: PageQuery) -> Page[ConversationRow]:
        """As PersistenceRepository.conversations."""
        with our_errors():
            return cast(Page[ConversationRow], await self._handle.conversations.remote(user, page))

    async def messages(self, user: str, conversation_id: str, page: PageQuery) -> Page[Memory]:
        """As PersistenceRepository.messages."""
        with our_errors():
            return cast(Page[Memory], await self._handle.messages.remote(user, conversation_id, page))

    async def delete_conversation(self, user: str, conversation_id: str) -> None:
        """As Hippocampus.forget_conversation."""
        with our_errors():
            await self._handle.delete_conversation.remote(user, conversation_id)

    async def erase(self, user: str) -> dict[str, int]:
        """As Hippocampus.forget_user."""
        with our_errors():
            return cast(dict[str, int], await self._handle.erase.remote(user))

    async def ready(self) -> None:
        """Raise UnavailableError unless the database answers."""
        with our_errors():
            await self._handle.ready.remote()
