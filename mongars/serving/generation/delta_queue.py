"""Text on its way from the generating thread to an event loop, joined into pieces worth a message."""

import asyncio
from contextlib import suppress

COALESCE_S = 0.05
"""Shortest time between two pieces of one reply; Ray's own language model server uses the same."""


class DeltaQueue:
    """The text of one reply. `put` and `end` may be called from any thread, `next` on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._texts: list[str] = []
        self._changed, self._finished = asyncio.Event(), asyncio.Event()
        self._is_first = True

    def put(self, text: str) -> None:
        """Append text."""
        self._loop.call_soon_threadsafe(self._add, text)

    def end(self) -> None:
        """Mark the end of the text."""
        self._loop.call_soon_threadsafe(self._end)

    async def next(self) -> str | None:
        """Return the first text as soon as there is some, then what COALESCE_S gathers; None after the end."""
        if not self._is_first:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._finished.wait(), COALESCE_S)
        self._is_first = False
        while not (joined := "".join(self._texts)) and not self._finished.is_set():
            self._changed.clear()
            await self._changed.wait()
        self._texts.clear()
        return joined or None

    def _add(self, text: str) -> None:
        self._texts.append(text)
        self._changed.set()

    def _end(self) -> None:
        self._finished.set()
        self._changed.set()
