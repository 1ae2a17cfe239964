"""Gets what SQL holds into the index: the turns of a moment ago, and every row anew for a new encoder.

Owns both, and their rule: what was forgotten meanwhile is taken out again. Must not know who waits for it, nor
what is recalled. Whoever embeds is handed in as an Embedder, and its encoder may change between any two calls.
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
# Where all is embedded anew, requests share the encoder: calls of few texts, with a rest as long as each took.
FILL_BATCH = 16
FILL_SHARE = 0.5
# Of encoders before the current one: a rollback finds its vectors, and replicas may still answer with one.
EARLIER_SPACES = 2
_DONE = object()


class Embedder(Protocol):
    """Whoever makes vectors: the deployment's handle, or a fake in a test."""

    async def stamp(self) -> AdapterStamp:
        """Return the encoder that would answer now; the cache is asked under it before anything is embedded."""

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Return one vector a text. The answer's own stamp says which encoder made them."""


@dataclass(frozen=True, slots=True)
class Indexing:
    """Writes memories into the index, in both lanes. SQL, index and file work run on threads."""

    repository: PersistenceRepository
    index: MemoryIndex
    embedder: Embedder
    cache: TieredCache

    async def add(self, memories: Sequence[Memory]) -> None:
        """Index memories that were just kept, under the encoder that answers now."""
        await asyncio.to_thread(self.index.add_texts, memories)
        await self._embed_into_space(memories)
        await self._drop_forgotten(memories)

    async def fill(self, limit: int | None = None) -> int:
        """As Hippocampus.reembed."""
        added = 0
        chunks = self.repository.memory_chunks(EMBED_BATCH)
        while limit is None or added < limit:
            chunk = await asyncio.to_thread(next, chunks, _DONE)
            if not isinstance(chunk, list):
                break
            rows = [memory for memory in chunk if recallable(memory)]
            ids = [memory.id for memory in rows]
            unread = await asyncio.to_thread(self.index.missing_texts, ids)
            await asyncio.to_thread(self.index.add_texts, [row for row in rows if row.id in unread])
            space = (await self.embedder.stamp()).space
            absent = await asyncio.to_thread(self.index.missing_vectors, space, ids)
            batch = [row for row in rows if row.id in absent]
            batch = batch if limit is None else batch[: limit - added]
            if batch:
                await self._embed_into_space(batch, at_once=FILL_BATCH, share=FILL_SHARE)
            await self._drop_forgotten(rows)
            added += len(batch)
        if limit is None:
            space = (await self.embedder.stamp()).space
            await asyncio.to_thread(self.index.keep_spaces, space, EARLIER_SPACES)
        return added

    async def _embed_into_space(
        self, memories: Sequence[Memory], *, at_once: int = EMBED_BATCH, share: float = 1.0
    ) -> None:
        """Put memories into the space of the encoder that read them, embedded for `share` of the time.

        What a user said was read when his memory was asked about it, so that its vector is mostly in his cache.
        """
        stamp = await self.embedder.stamp()
        read = await asyncio.to_thread(self._read_before, stamp, memories)
        unread = [memory for memory in memories if memory.id not in read]
        for few in (unread[start : start + at_once] for start in range(0, len(unread), at_once)):
            started = time.perf_counter()
            answer = await self.embedder.embed([memory.text for memory in few])
            await asyncio.sleep((time.perf_counter() - started) * (1 / share - 1))
            if answer.stamp.space == stamp.space:  # one write of all takes no longer than one of some
                read |= dict(zip((memory.id for memory in few), vectors_of(answer), strict=True))
            else:
                await asyncio.to_thread(self.index.add_vectors, answer.stamp.space, few, vectors_of(answer))
        done = [memory for memory in memories if memory.id in read]
        if done:
            vectors = np.stack([read[memory.id] for memory in done])
            await asyncio.to_thread(self.index.add_vectors, stamp.space, done, vectors)

    def _read_before(self, stamp: AdapterStamp, memories: Sequence[Memory]) -> dict[str, npt.NDArray[np.float32]]:
        """Return the vectors of questions that are in their users' caches, by the memories' ids."""
        found = {
            memory.id: self.cache.get(memory.user, cache_key(stamp, memory.text))
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
        kept = await asyncio.to_thread(self.repository.existing, ids)
        gone = [identity for identity in ids if identity not in kept]
        if gone:
            await asyncio.to_thread(self.index.remove_messages, gone)


def recallable(memory: Memory) -> bool:
    """Whether a turn is worth recalling: instructions to the assistant and blank turns are kept in SQL only."""
    return memory.role != "system" and bool(memory.text.strip())


def cache_key(stamp: AdapterStamp, text: str) -> str:
    """Return the key in a user's cache of the vector that an encoder gives a text."""
    return f"{stamp.space}:{hashlib.sha256(text.encode()).hexdigest()}"


def vectors_of(answer: Embeddings) -> npt.NDArray[np.float32]:
    """Return the answer's vectors, [count, dimensions], float32."""
    return np.frombuffer(answer.vectors, dtype="<f4").reshape(answer.count, answer.dimensions)
