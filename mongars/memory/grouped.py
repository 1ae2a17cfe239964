"""Work that takes long to begin and little per item, done for all who wait at once: a group commit.

Owns the joining. Must not know what the work is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Grouped(Generic[Item]):
    """Calls `work` with the items of one caller, or of all who came while it was at work.

    Nobody waits for company: the first caller's items go at once. A call has at most `limit` items, unless one
    caller brings more. Belongs to one event loop.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Awaitable[None]], *, limit: int) -> None:
        self._work = work
        self._limit = limit
        self._waiting: list[tuple[Sequence[Item], asyncio.Future[None]]] = []
        self._running: asyncio.Task[None] | None = None

    async def add(self, items: Sequence[Item]) -> None:
        """Return when the work is done for these items. Raises what the work raises; all of a group get it."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, done))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        await done

    async def _run(self) -> None:
        try:
            while self._waiting:
                group = self._next_group()
                try:
                    await self._work([item for items, _ in group for item in items])
                except Exception as error:  # noqa: BLE001 (raised again in each caller)
                    _tell(group, error)
                except BaseException as error:  # cancelled, with the loop that ends: nobody may wait any longer
                    _tell([*group, *self._waiting], error)
                    self._waiting.clear()
                    raise
                else:
                    _tell(group, None)
        finally:
            self._running = None

    def _next_group(self) -> list[tuple[Sequence[Item], asyncio.Future[None]]]:
        count, size = 0, 0
        for items, _ in self._waiting:
            size += len(items)
            if count and size > self._limit:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group


def _tell(group: Sequence[tuple[object, asyncio.Future[None]]], error: BaseException | None) -> None:
    for _, done in group:
        if done.done():
            continue  # its caller was cancelled
        if error is None:
            done.set_result(None)
        elif isinstance(error, asyncio.CancelledError):
            done.cancel()
        else:
            done.set_exception(error)
