"""Hippocampus: remembers what was said, recalls what helps, forgets for good.

Owns the order of the steps over the repository (truth), the index and the cache. Must not know models: whoever
embeds is handed in as an Embedder, and its encoder may change between any two calls.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mongars import telemetry
from mongars.errors import InputError
from mongars.memory.cache import TieredCache
from mongars.memory.index.group_commit import GroupCommit
from mongars.memory.index.index import Hit, MemoryIndex
from mongars.memory.index.indexing import EMBED_BATCH, Embedder, Indexing, cache_key, recallable, vectors_of
from mongars.memory.sql.persistence import PersistenceRepository
from mongars.memory.sql.rows import check_ids
from mongars.records import AdapterStamp, Memory, Turn

logger = logging.getLogger(__name__)
MAX_RECALL = 100
# So that what is on its way into the index is there to be erased. Where the encoder hangs for longer, it is taken
# out again when it arrives (see Indexing).
FORGET_WAIT_S = 5.0
# How long turns wait for those of others, to be indexed with them; a recall of theirs ends the wait.
INDEX_WITHIN_S = 1.0
MAX_PENDING = 256  # calls whose turns wait for the index; a caller beyond that waits as well


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
        self._indexing = Indexing(repository, index, embedder, cache)
        # A write to the index takes 5 to 20 ms for one memory: 16 chats took 260 ms one by one, and 100 joined.
        self._commits = GroupCommit(self._indexing.add, limit=EMBED_BATCH, patience_s=INDEX_WITHIN_S)
        self._pending: dict[str, set[asyncio.Future[None]]] = {}
        self.behind = False
        self._seen: AdapterStamp | None = None
        self._filled: AdapterStamp | None = None
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
        indexed = [memory for memory in memories if recallable(memory)]
        if indexed:
            await self._index_soon(user, indexed)
        return memories

    async def wait_indexed(self, user: str | None = None, *, timeout_s: float | None = None) -> None:
        """Return when what was remembered before, of one user or of all, is in the index or was refused by it.

        At the latest after `timeout_s`.
        """
        pending = self._pending.values() if user is None else [self._pending.get(user, set())]
        waited_for = [indexed for own in pending for indexed in own]
        if waited_for:
            self._commits.flush()
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
        await self.wait_indexed(user)
        vector, stamp, fresh = await self._embed_query(user, query)
        search = asyncio.to_thread(
            self._index.search,
            user,
            query,
            k,
            space=stamp.space,
            vector=vector,
            exclude_conversation=exclude_conversation,
        )
        if fresh:
            put = asyncio.to_thread(self._cache.put, user, cache_key(stamp, query), vector.tobytes())
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
        await self.wait_indexed(user, timeout_s=FORGET_WAIT_S)
        try:
            await asyncio.to_thread(self._repository.delete_conversation, user, conversation_id)
        finally:
            await asyncio.to_thread(self._index.remove_conversation, user, conversation_id)
            # The cache holds vectors of what the user asked, and a vector tells much of its text.
            await asyncio.to_thread(self._cache.drop_namespace, user)

    async def forget_user(self, user: str) -> dict[str, int]:
        """Erase everything of a user everywhere; returns what was removed, by place. Safe to repeat."""
        await self.wait_indexed(user, timeout_s=FORGET_WAIT_S)
        removed = await asyncio.to_thread(self._repository.erase_user, user)
        removed["index"] = await asyncio.to_thread(self._index.remove_user, user)
        removed["cache"] = await asyncio.to_thread(self._cache.drop_namespace, user)
        return removed

    async def follow_encoder(self) -> int:
        """Embed anew when the encoder is another and was so at the last call, too; returns how many rows.

        To be called every few seconds. Of encoders that are published one after the other only the last is worth
        it, and requests have enough to bear from the others; meanwhile recall has the lexical lane, and vectors of
        what is said from then on. The first call, and what the index misses, wait for nothing.
        """
        stamp = await self._embedder.stamp()
        stays, self._seen = self._seen is not None and stamp.space == self._seen.space, stamp
        is_new = self._filled is None or (stays and stamp.space != self._filled.space)
        if not is_new and not self.behind:
            return 0
        added = await self.reembed()
        self._filled = stamp
        return added

    async def reembed(self, limit: int | None = None) -> int:
        """Fill the current encoder's space for rows that lack a vector there; returns how many it added.

        At most `limit` rows. Also puts into the lexical lane what a crash kept out of it. When the encoder changes
        meanwhile, each batch is filed under the encoder that made it; a later call finishes the new one. After all
        rows, the spaces of encoders long past are dropped. It leaves the encoder to others for half of the time.
        """
        await self.wait_indexed()
        self.behind = False
        return await self._indexing.fill(limit)

    async def _index_soon(self, user: str, memories: Sequence[Memory]) -> None:
        """Have memories indexed, and wait for it only where too much is under way."""
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
        self.behind = True
        logger.warning("Turns are kept, but not indexed yet (%s).", type(error).__name__)

    async def _embed_query(self, user: str, query: str) -> tuple[npt.NDArray[np.float32], AdapterStamp, bool]:
        """Return the query's vector, [d], the encoder that made it, and whether the user's cache had it not."""
        stamp = await self._embedder.stamp()
        cached = await asyncio.to_thread(self._cache.get, user, cache_key(stamp, query))
        if cached is not None:
            return np.frombuffer(cached, dtype="<f4"), stamp, False
        answer = await self._embedder.embed([query])
        return vectors_of(answer)[0], answer.stamp, True

    def _kept(self, user: str, hits: Sequence[Hit]) -> tuple[Memory, ...]:
        """Return the memories of the hits that SQL still holds: what was erased there is never recalled."""
        kept = self._repository.memories(user, [hit.message for hit in hits])
        return tuple(
            replace(kept[hit.message], score=hit.score, lanes=hit.lanes) for hit in hits if hit.message in kept
        )
