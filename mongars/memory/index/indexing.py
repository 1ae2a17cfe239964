"""Writes memories from SQL into both retrievers of the index.

Rule: whatever was forgotten while it was being indexed is removed again.
"""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mongars.memory.cache import TieredCache
from mongars.memory.index.index import MemoryIndex
from mongars.memory.sql.persistence import PersistenceRepository
from mongars.records import AdapterStamp, Embeddings, Memory

EMBED_BATCH = 64  # texts of one call to the encoder, which sorts and batches within
# While all memories are embedded again, requests share the encoder: small calls, and a pause as long as each.
FILL_BATCH = 16
FILL_SHARE = 0.5
# Vector spaces to keep besides the current one: for a rollback, and for replicas that still serve an earlier
# encoder.
PREVIOUS_SPACES = 2
_DONE = object()


class Embedder(Protocol):
    """Makes vectors: the deployment's handle, or a fake in a test."""

    async def stamp(self) -> AdapterStamp:
        """Return the encoder that would answer now, which is part of the cache key."""

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Return one vector a text, with the stamp of the encoder that made them."""


@dataclass(frozen=True, slots=True)
class Indexing:
    """Writes memories into the index. SQL, index and file work run on threads."""

    repository: PersistenceRepository
    index: MemoryIndex
    embedder: Embedder
    cache: TieredCache

    async def add(self, memories: Sequence[Memory]) -> None:
        """Index memories that were just stored, in the current encoder's vector space."""
        await asyncio.to_thread(self.index.add_texts, memories)
        await self._embed(memories)
        await self._remove_forgotten(memories)

    async def fill(self, limit: int | None = None) -> int:
        """Index what is missing of all that SQL has; see Hippocampus.reembed."""
        added = 0
        chunks = self.repository.memory_chunks(EMBED_BATCH)
        while limit is None or added < limit:
            chunk = await asyncio.to_thread(next, chunks, _DONE)
            if not isinstance(chunk, list):
                break
            added += await self.complete(chunk, None if limit is None else limit - added)
        if limit is None:
            vector_space = (await self.embedder.stamp()).vector_space
            await asyncio.to_thread(self.index.keep_vector_spaces, vector_space, PREVIOUS_SPACES)
        return added

    async def complete(self, memories: Sequence[Memory], limit: int | None = None) -> int:
        """Index what is missing of some memories, and up to `limit` of their vectors; return how many of these."""
        rows = [memory for memory in memories if is_recallable(memory)]
        ids = [memory.id for memory in rows]
        missing_texts = await asyncio.to_thread(self.index.missing_texts, ids)
        await asyncio.to_thread(self.index.add_texts, [row for row in rows if row.id in missing_texts])
        vector_space = (await self.embedder.stamp()).vector_space
        missing_vectors = await asyncio.to_thread(self.index.missing_vectors, vector_space, ids)
        batch = [row for row in rows if row.id in missing_vectors][:limit]
        if batch:
            await self._embed(batch, batch_size=FILL_BATCH, share=FILL_SHARE)
        await self._remove_forgotten(rows)
        return len(batch)

    async def _embed(
        self, memories: Sequence[Memory], *, batch_size: int = EMBED_BATCH, share: float = 1.0
    ) -> None:
        """Add the vectors of memories, using at most `share` of the encoder's time.

        The vector of a user's turn is mostly in the cache, because it was the query of a recall.
        """
        stamp = await self.embedder.stamp()
        vectors = await asyncio.to_thread(self._cached_vectors, stamp, memories)
        uncached = [memory for memory in memories if memory.id not in vectors]
        for batch in (uncached[start : start + batch_size] for start in range(0, len(uncached), batch_size)):
            started = time.perf_counter()
            answer = await self.embedder.embed([memory.text for memory in batch])
            await asyncio.sleep((time.perf_counter() - started) * (1 / share - 1))
            if answer.stamp.vector_space == stamp.vector_space:  # written below, all at once
                vectors |= dict(zip((memory.id for memory in batch), vectors_of(answer), strict=True))
            else:
                await asyncio.to_thread(
                    self.index.add_vectors, answer.stamp.vector_space, batch, vectors_of(answer)
                )
        embedded = [memory for memory in memories if memory.id in vectors]
        if embedded:
            stacked = np.stack([vectors[memory.id] for memory in embedded])
            await asyncio.to_thread(self.index.add_vectors, stamp.vector_space, embedded, stacked)

    def _cached_vectors(
        self, stamp: AdapterStamp, memories: Sequence[Memory]
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Return the vectors of users' turns that are in their caches, by the memories' ids."""
        cached = {
            memory.id: self.cache.get(memory.user, cache_key(stamp, memory.text))
            for memory in memories
            if memory.role == "user"
        }
        return {name: np.frombuffer(vector, dtype="<f4") for name, vector in cached.items() if vector}

    async def _remove_forgotten(self, memories: Sequence[Memory]) -> None:
        """Remove memories that were forgotten while they were being indexed.

        Forgetting deletes from SQL first and from the index second. If SQL still has a row after it was indexed,
        any later deletion will find it in the index; if not, the deletion may have come too early.
        """
        ids = [memory.id for memory in memories]
        existing = await asyncio.to_thread(self.repository.existing, ids)
        forgotten = [identity for identity in ids if identity not in existing]
        if forgotten:
            await asyncio.to_thread(self.index.remove_messages, forgotten)


def is_recallable(memory: Memory) -> bool:
    """Return whether to index a turn: system messages and blank turns are in SQL only."""
    return memory.role != "system" and bool(memory.text.strip())


def cache_key(stamp: AdapterStamp, text: str) -> str:
    """Return the key in a user's cache of the vector that an encoder gives a text."""
    return f"{stamp.vector_space}:{hashlib.sha256(text.encode()).hexdigest()}"


def vectors_of(answer: Embeddings) -> npt.NDArray[np.float32]:
    """Return the answer's vectors, [count, dimensions], float32."""
    return np.frombuffer(answer.vectors, dtype="<f4").reshape(answer.count, answer.dimensions)
