"""Hippocampus: a user's long-term memory over SQL (the source of truth), the index and the cache."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt

from mongars import telemetry
from mongars.errors import InputError
from mongars.memory.cache import TieredCache
from mongars.memory.index.group_commit import GroupCommit
from mongars.memory.index.index import Hit, MemoryIndex
from mongars.memory.index.indexing import EMBED_BATCH, Embedder, Indexing, cache_key, is_recallable, vectors_of
from mongars.memory.sql.persistence import PersistenceRepository
from mongars.memory.sql.rows import check_ids
from mongars.records import AdapterStamp, ChatRef, Memory, Turn

logger = logging.getLogger(__name__)
MAX_RECALL = 100
# Forgetting waits this long for turns on their way into the index. Where the encoder hangs for longer, Indexing
# removes them after it has added them.
FORGET_WAIT_S = 5.0
INDEX_WITHIN_S = 1.0  # how long turns wait to be indexed with those of others; their user's recall ends the wait
MAX_PENDING = 256  # calls whose turns wait for the index; further callers wait with them


@dataclass(frozen=True, slots=True)
class Recall:
    """The memories that fit a query, best first, and the encoder that embedded the query.

    For a chat also the conversation that it continues, None for a new one, and its messages for the prompt.
    """

    memories: tuple[Memory, ...]
    stamp: AdapterStamp
    conversation_id: str | None = None
    earlier: tuple[Memory, ...] = ()


class Hippocampus:
    """Remembers, recalls and forgets. Its methods are coroutines; SQL, index and file work run on threads.

    `needs_reindex` says that the index lacks turns, which `reembed` adds. The encoder may change between any two
    calls.
    """

    def __init__(
        self, repository: PersistenceRepository, index: MemoryIndex, embedder: Embedder, cache: TieredCache
    ) -> None:
        """Connect the collaborators, which the caller starts and closes."""
        self._repository = repository
        self._index = index
        self._embedder = embedder
        self._cache = cache
        self._indexing = Indexing(repository, index, embedder, cache)
        # A write to the index costs nearly the same for one memory as for a batch.
        self._commits = GroupCommit(self._indexing.add, limit=EMBED_BATCH, max_wait_s=INDEX_WITHIN_S)
        self._pending: dict[str, set[asyncio.Future[None]]] = {}
        self.needs_reindex = False
        self._last_stamp: AdapterStamp | None = None
        self._indexed_stamp: AdapterStamp | None = None
        self._duration = telemetry.meter.create_histogram(telemetry.RECALL_DURATION, unit="s")

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
        """Store turns in SQL and return them; they are indexed in the background, and `recall` waits for that.

        `sent` and `asked_at` are those of PersistenceRepository.append_turns, which also says what is not stored.
        When the embedder or the index fails, `needs_reindex` is set, and until `reembed` the turns are found by
        their words or not at all. Raises InputError for text that cannot be stored, ConversationNotFoundError for
        another user's id.
        """
        memories = await asyncio.to_thread(
            self._repository.append_turns,
            conversation_id,
            user,
            turns,
            sent=sent,
            consent=consent,
            asked_at=asked_at,
        )
        recallable = [memory for memory in memories if is_recallable(memory)]
        if recallable:
            await self._index_soon(user, recallable)
        return memories

    async def wait_indexed(self, user: str | None = None, *, timeout_s: float | None = None) -> None:
        """Wait until the turns that one user, or all, remembered so far are indexed, or could not be.

        Returns after `timeout_s` at the latest.
        """
        pending = self._pending.values() if user is None else [self._pending.get(user, set())]
        waited_for = [indexed for own in pending for indexed in own]
        if waited_for:
            self._commits.flush()
            await asyncio.wait(waited_for, timeout=timeout_s)

    async def recall(self, user: str, query: str, k: int = 4, *, chat: ChatRef | None = None) -> Recall:
        """Return the user's `k` memories that fit the query best.

        For a chat these are more: the turns of its prompt may be among them, and the caller leaves those out.
        Raises InputError when `k` is not 1 to 100, ConversationNotFoundError for a chat of another user.
        """
        if not 1 <= k <= MAX_RECALL:
            raise InputError(f"k is {k}.", remedy=f"Ask for 1 to {MAX_RECALL} memories.", param="k")
        check_ids(user=user, query=query)
        started = time.perf_counter()
        conversation_id, earlier = None, tuple[Memory, ...]()
        if chat is not None:
            conversation_id, earlier = await asyncio.to_thread(
                self._repository.open_chat, user, chat, Turn("user", query)
            )
            k = min(MAX_RECALL, k + len(chat.sent or earlier) + 1)
        await self.wait_indexed(user)
        vector, stamp, is_new = await self._embed_query(user, query)
        search = asyncio.to_thread(
            self._index.search,
            user,
            query,
            k,
            vector_space=stamp.vector_space,
            vector=vector,
        )
        if is_new:
            put = asyncio.to_thread(self._cache.put, user, cache_key(stamp, query), vector.tobytes())
            hits, _ = await asyncio.gather(search, put)
        else:
            hits = await search
        memories = await asyncio.to_thread(self._existing, user, hits)
        self._duration.record(time.perf_counter() - started)
        return Recall(memories, stamp, conversation_id, earlier)

    async def forget_conversation(self, user: str, conversation_id: str) -> None:
        """Erase a conversation from SQL, the index and the cache.

        Safe to repeat after a failure. Raises ConversationNotFoundError when SQL does not have it, or has it for
        another user; the index and the cache are cleared all the same.
        """
        check_ids(user=user, conversation_id=conversation_id)
        await self.wait_indexed(user, timeout_s=FORGET_WAIT_S)
        try:
            await asyncio.to_thread(self._repository.delete_conversation, user, conversation_id)
        finally:
            await asyncio.to_thread(self._index.remove_conversation, user, conversation_id)
            # The cache has vectors of the user's queries, and a vector reveals much of its text.
            await asyncio.to_thread(self._cache.drop_namespace, user)

    async def forget_user(self, user: str) -> dict[str, int]:
        """Erase everything of a user; returns how many rows and entries, by place. Safe to repeat."""
        await self.wait_indexed(user, timeout_s=FORGET_WAIT_S)
        removed = await asyncio.to_thread(self._repository.erase_user, user)
        removed["index"] = await asyncio.to_thread(self._index.remove_user, user)
        removed["cache"] = await asyncio.to_thread(self._cache.drop_namespace, user)
        return removed

    async def follow_encoder(self) -> int:
        """Embed all memories again once a new encoder has stayed for two calls; returns how many were embedded.

        To be called every few seconds. Of several encoders in quick succession only the last is worth the load;
        until then, recall has the lexical retriever and the vectors of new turns. The first call, and turns that
        the index lacks, do not wait.
        """
        stamp = await self._embedder.stamp()
        last, self._last_stamp = self._last_stamp, stamp
        stays = last is not None and stamp.vector_space == last.vector_space
        indexed = self._indexed_stamp
        is_new = indexed is None or (stays and stamp.vector_space != indexed.vector_space)
        if not is_new and not self.needs_reindex:
            return 0
        added = await self.reembed()
        self._indexed_stamp = stamp
        return added

    async def index_imports(self) -> int:
        """Index the messages of conversations that another process imported; returns how many were embedded.

        When that fails, `needs_reindex` is set. To be called every few seconds.
        """
        added = 0
        while memories := await asyncio.to_thread(self._repository.take_unindexed):
            try:
                added += await self._indexing.complete(memories)
            except BaseException:
                self.needs_reindex = True
                raise
        return added

    async def reembed(self, limit: int | None = None) -> int:
        """Add up to `limit` missing vectors to the current encoder's vector space; returns how many.

        Also adds texts that a crash kept out of the lexical retriever. Uses at most half of the encoder's time. If
        the encoder changes meanwhile, each batch goes into the vector space of the encoder that made it. Without a
        limit, the vector spaces of outdated encoders are dropped at the end.
        """
        await self.wait_indexed()
        self.needs_reindex = False
        return await self._indexing.fill(limit)

    async def _index_soon(self, user: str, memories: Sequence[Memory]) -> None:
        """Queue memories for the index, and wait for it only when too many are pending."""
        indexed = self._commits.add(memories)
        self._pending.setdefault(user, set()).add(indexed)
        indexed.add_done_callback(lambda _: self._indexed(user, indexed))
        if sum(map(len, self._pending.values())) > MAX_PENDING:
            await asyncio.wait([indexed])

    def _indexed(self, user: str, indexed: "asyncio.Future[None]") -> None:
        own = self._pending[user]
        own.discard(indexed)
        if not own:
            del self._pending[user]
        if indexed.cancelled() or (error := indexed.exception()) is None:
            return
        self.needs_reindex = True
        logger.warning("Turns are stored, but not indexed yet (%s).", type(error).__name__)

    async def _embed_query(self, user: str, query: str) -> tuple[npt.NDArray[np.float32], AdapterStamp, bool]:
        """Return the query's vector, [d], the encoder that made it, and whether the cache lacked it."""
        stamp = await self._embedder.stamp()
        cached = await asyncio.to_thread(self._cache.get, user, cache_key(stamp, query))
        if cached is not None:
            return np.frombuffer(cached, dtype="<f4"), stamp, False
        answer = await self._embedder.embed([query])
        return vectors_of(answer)[0], answer.stamp, True

    def _existing(self, user: str, hits: Sequence[Hit]) -> tuple[Memory, ...]:
        """Return the memories of the hits that SQL still has: erased ones are never recalled."""
        found = self._repository.memories(user, [hit.message for hit in hits])
        return tuple(
            replace(found[hit.message], score=hit.score, retriever_scores=hit.retriever_scores)
            for hit in hits
            if hit.message in found
        )
