"""Hippocampus: remembers what was said, recalls what helps, forgets for good.

Owns the order of the steps over the repository (truth), the index and the cache. Must not know models: whoever
embeds is handed in as an Embedder, and its encoder may change between any two calls.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mongars import telemetry
from mongars.errors import InputError
from mongars.memory.cache import TieredCache
from mongars.memory.grouped import Grouped
from mongars.memory.index import Hit, MemoryIndex
from mongars.memory.persistence import PersistenceRepository
from mongars.memory.rows import check_ids
from mongars.records import AdapterStamp, Embeddings, Memory, Turn

logger = logging.getLogger(__name__)
EMBED_BATCH = 64  # texts of one call to the encoder, which sorts and batches within
MAX_RECALL = 100
# So that what is on its way into the index is there to be erased. Where the encoder hangs for longer, it is taken
# out again when it arrives (`_drop_forgotten`).
FORGET_WAIT_S = 5.0
# How long turns wait for those of others, to be indexed with them; a recall of theirs ends the wait.
INDEX_WITHIN_S = 1.0
MAX_PENDING = 256  # calls whose turns wait for the index; a caller beyond that waits as well
_DONE = object()


class Embedder(Protocol):
    """Whoever makes vectors: the deployment's handle, or a fake in a test."""

    async def stamp(self) -> AdapterStamp:
        """Return the encoder that would answer now; the cache is asked under it before anything is embedded."""

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Return one vector a text. The answer's own stamp says which encoder made them."""


@dataclass(frozen=True, slots=True)
class Recall:
    """The memories that fit a query, best first, and the encoder that embedded the query."""

    memories: tuple[Memory, ...]
    stamp: AdapterStamp


class Hippocampus:
    """A user's memory. Its methods are coroutines; SQL, index and file work run on threads.

    `behind` says that turns are missing in the index which `reembed` would add.
    """

    def __init__(
        self, repository: PersistenceRepository, index: MemoryIndex, embedder: Embedder, cache: TieredCache
    ) -> None:
        """Join the collaborators; none is started or closed here."""
        self._repository = repository
        self._index = index
        self._embedder = embedder
        self._cache = cache
        # A write to the index takes 5 to 20 ms for one memory: 16 chats took 260 ms one by one, and 100 joined.
        self._indexing = Grouped(self._add_to_index, limit=EMBED_BATCH, patience_s=INDEX_WITHIN_S)
        self._pending: dict[str, set[asyncio.Future[None]]] = {}
        self.behind = False
        self._duration = telemetry.meter.create_histogram(telemetry.RECALL_DURATION, unit="s")

    async def remember(
        self, conversation_id: str, user: str, turns: Sequence[Turn], *, consent: bool
    ) -> tuple[Memory, ...]:
        """Keep turns: they are in SQL when this returns; the index follows beside it, and `recall` waits for it.

        What the embedder or the index then refuses is found by its words or not at all until `reembed` has added
        it; `behind` says that it is needed.
        Raises InputError for text that cannot be kept, ConversationNotFoundError for another user's id.
        """
        memories = await asyncio.to_thread(
            self._repository.append_turns, conversation_id, user, turns, consent=consent
        )
        recallable = [memory for memory in memories if _recallable(memory)]
        if recallable:
            await self._index_soon(user, recallable)
        return memories

    async def settled(self, user: str | None = None, *, timeout_s: float | None = None) -> None:
        """Return when what was remembered before, of one user or of all, is in the index or was refused by it.

        At the latest after `timeout_s`.
        """
        pending = self._pending.values() if user is None else [self._pending.get(user, set())]
        waited_for = [indexed for own in pending for indexed in own]
        if waited_for:
            self._indexing.hurry()
            await asyncio.wait(waited_for, timeout=timeout_s)

    async def recall(
        self, user: str, query: str, k: int = 4, *, exclude_conversation: str | None = None
    ) -> Recall:
        """Return the user's `k` memories that fit the query best; those of one conversation may be left out.

        Raises InputError when `k` is not 1 to 100.
        """
        if not 1 <= k <= MAX_RECALL:
            raise InputError(f"k is {k}.", remedy=f"Ask for 1 to {MAX_RECALL} memories.", param="k")
        check_ids(user=user, query=query, exclude_conversation=exclude_conversation)
        started = time.perf_counter()
        await self.settled(user)
        vector, stamp, fresh = await self._embed_query(user, query)
        search = asyncio.to_thread(
            self._index.search,
            user,
            query,
            k,
            digest=stamp.digest,
            vector=vector,
            exclude_conversation=exclude_conversation,
        )
        if fresh:
            put = asyncio.to_thread(self._cache.put, user, _cache_key(stamp, query), vector.tobytes())
            hits, _ = await asyncio.gather(search, put)
        else:
            hits = await search
        memories = await asyncio.to_thread(self._kept, user, hits)
        self._duration.record(time.perf_counter() - started)
        return Recall(memories, stamp)

    async def forget_conversation(self, user: str, conversation_id: str) -> None:
        """Erase a conversation everywhere.

        Safe to repeat after a failure: the index is cleared even when SQL has nothing left, and
        ConversationNotFoundError then rises as it does for a conversation of somebody else.
        """
        check_ids(user=user, conversation_id=conversation_id)
        await self.settled(user, timeout_s=FORGET_WAIT_S)
        try:
            await asyncio.to_thread(self._repository.delete_conversation, user, conversation_id)
        finally:
            await asyncio.to_thread(self._index.remove_conversation, user, conversation_id)
            # The cache holds vectors of what the user asked, and a vector tells much of its text.
            await asyncio.to_thread(self._cache.drop_namespace, user)

    async def forget_user(self, user: str) -> dict[str, int]:
        """Erase everything of a user everywhere; returns what was removed, by place. Safe to repeat."""
        await self.settled(user, timeout_s=FORGET_WAIT_S)
        removed = await asyncio.to_thread(self._repository.erase_user, user)
        removed["index"] = await asyncio.to_thread(self._index.remove_user, user)
        removed["cache"] = await asyncio.to_thread(self._cache.drop_namespace, user)
        return removed

    async def reembed(self, limit: int | None = None) -> int:
        """Fill the current encoder's space for rows that lack a vector there; returns how many it added.

        At most `limit` rows. Also puts into the lexical lane what a crash kept out of it. When the encoder
        changes meanwhile, each batch is filed under the encoder that made it; a later call finishes the new one.
        """
        await self.settled()
        self.behind = False
        added = 0
        chunks = self._repository.memory_chunks(EMBED_BATCH)
        while limit is None or added < limit:
            chunk = await asyncio.to_thread(next, chunks, _DONE)
            if not isinstance(chunk, list):
                break
            rows = [memory for memory in chunk if _recallable(memory)]
            ids = [memory.id for memory in rows]
            unread = await asyncio.to_thread(self._index.missing_texts, ids)
            await asyncio.to_thread(self._index.add_texts, [row for row in rows if row.id in unread])
            digest = (await self._embedder.stamp()).digest
            absent = await asyncio.to_thread(self._index.missing_vectors, digest, ids)
            batch = [row for row in rows if row.id in absent]
            batch = batch if limit is None else batch[: limit - added]
            if batch:
                await self._embed_into_space(batch)
            await self._drop_forgotten(rows)
            added += len(batch)
        return added

    async def rebuild_index(self) -> int:
        """Drop the index and fill it again from SQL, with the current encoder; returns how many vectors it made.

        The cached vectors go too: after a change of the base model both hold vectors that no longer compare.
        """
        await asyncio.to_thread(self._index.clear)
        await asyncio.to_thread(self._cache.clear)
        return await self.reembed()

    async def _index_soon(self, user: str, memories: Sequence[Memory]) -> None:
        """Have memories indexed, and wait for it only where too much is under way."""
        indexed = self._indexing.add(memories)
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
        self.behind = True
        logger.warning("Turns are kept, but not indexed yet (%s).", type(error).__name__)

    async def _add_to_index(self, memories: Sequence[Memory]) -> None:
        await asyncio.to_thread(self._index.add_texts, memories)
        await self._embed_into_space(memories)
        await self._drop_forgotten(memories)

    async def _embed_into_space(self, memories: Sequence[Memory]) -> None:
        """Put memories into the space of the encoder that read them.

        What a user said was read when his memory was asked about it, so that its vector is mostly in his cache.
        """
        stamp = await self._embedder.stamp()
        read = await asyncio.to_thread(self._read_before, stamp, memories)
        unread = [memory for memory in memories if memory.id not in read]
        if unread:
            answer = await self._embedder.embed([memory.text for memory in unread])
            if answer.stamp.digest == stamp.digest:  # one write of all takes no longer than one of some
                ids = [memory.id for memory in unread]
                read |= dict(zip(ids, _vectors(answer), strict=True))
            else:
                await asyncio.to_thread(self._index.add_vectors, answer.stamp.digest, unread, _vectors(answer))
        done = [memory for memory in memories if memory.id in read]
        if done:
            vectors = np.stack([read[memory.id] for memory in done])
            await asyncio.to_thread(self._index.add_vectors, stamp.digest, done, vectors)

    def _read_before(self, stamp: AdapterStamp, memories: Sequence[Memory]) -> dict[str, npt.NDArray[np.float32]]:
        """Return the vectors of questions that are in their users' caches, by the memories' ids."""
        found = {
            memory.id: self._cache.get(memory.user, _cache_key(stamp, memory.text))
            for memory in memories
            if memory.role == "user"
        }
        return {name: np.frombuffer(vector, dtype="<f4") for name, vector in found.items() if vector}

    async def _drop_forgotten(self, memories: Sequence[Memory]) -> None:
        """Take out again what was forgotten while it was being indexed.

        Forgetting deletes from SQL and then from the index. A row that is still in SQL after it was indexed is
        therefore seen by any deletion from the index that follows; one that is not may have come too late.
        """
        ids = [memory.id for memory in memories]
        kept = await asyncio.to_thread(self._repository.existing, ids)
        gone = [identity for identity in ids if identity not in kept]
        if gone:
            await asyncio.to_thread(self._index.remove_messages, gone)

    async def _embed_query(self, user: str, query: str) -> tuple[npt.NDArray[np.float32], AdapterStamp, bool]:
        """Return the query's vector, [d], the encoder that made it, and whether the user's cache had it not."""
        stamp = await self._embedder.stamp()
        cached = await asyncio.to_thread(self._cache.get, user, _cache_key(stamp, query))
        if cached is not None:
            return np.frombuffer(cached, dtype="<f4"), stamp, False
        answer = await self._embedder.embed([query])
        return _vectors(answer)[0], answer.stamp, True

    def _kept(self, user: str, hits: Sequence[Hit]) -> tuple[Memory, ...]:
        """Return the memories of the hits that SQL still holds: what was erased there is never recalled."""
        kept = self._repository.memories(user, [hit.message for hit in hits])
        return tuple(
            replace(kept[hit.message], score=hit.score, lanes=hit.lanes) for hit in hits if hit.message in kept
        )


def _recallable(memory: Memory) -> bool:
    """Whether a turn is worth recalling: instructions to the assistant and blank turns are kept in SQL only."""
    return memory.role != "system" and bool(memory.text.strip())


def _cache_key(stamp: AdapterStamp, text: str) -> str:
    return f"{stamp.digest or 'base'}:{hashlib.sha256(text.encode()).hexdigest()}"


def _vectors(answer: Embeddings) -> npt.NDArray[np.float32]:
    """Return the answer's vectors, [count, dimensions], float32."""
    return np.frombuffer(answer.vectors, dtype="<f4").reshape(answer.count, answer.dimensions)
