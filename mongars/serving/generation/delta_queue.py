"""Text on its way from the generating thread to an event loop, in pieces that are worth a message.

Owns the joining of pieces. Must not know answers or models.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

COALESCE_S = 0.05
"""Least time between two pieces of one answer, as Ray's own language model server has it."""


class DeltaQueue:
    """Pieces of one answer. `put` and `end` may be called from any thread; iterate it once, on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._texts: list[str] = []
        self._changed, self._finished = asyncio.Event(), asyncio.Event()

    def put(self, text: str) -> None:
        """Add text."""
        self._loop.call_soon_threadsafe(self._add, text)

    def end(self) -> None:
        """Say that no more text comes."""
        self._loop.call_soon_threadsafe(self._end)

    async def __aiter__(self) -> AsyncIterator[str]:
        """Yield the first text at once, and then what has come in COALESCE_S, as one piece."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._texts:
                joined = "".join(self._texts)
                self._texts.clear()
                yield joined
            if self._finished.is_set() and not self._texts:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._finished.wait(), COALESCE_S)

    def _add(self, text: str) -> None:
        self._texts.append(text)
        self._changed.set()

    def _end(self) -> None:
        self._finished.set()
        self._changed.set()
