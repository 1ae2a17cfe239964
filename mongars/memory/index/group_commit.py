"""Work that takes long to begin and little per item, done for all who wait at once: a group commit.

Owns the joining. Must not know what the work is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")
_Group = list[tuple[Sequence[Item], "asyncio.Future[None]"]]


class GroupCommit(Generic[Item]):
    """Calls `work` with the items of all who came within `patience_s`, or while it was at work.

    Nobody waits for company once there are `limit` items, or somebody says `flush`. A call has at most `limit`
    items, unless one caller brings more. Belongs to one event loop.
    """

    def __init__(
        self, work: Callable[[Sequence[Item]], Awaitable[None]], *, limit: int, patience_s: float = 0.0
    ) -> None:
        self._work = work
        self._limit = limit
        self._patience_s = patience_s
        self._hurried = asyncio.Event()
        self._waiting: _Group[Item] = []
        self._running: asyncio.Task[None] | None = None

    def add(self, items: Sequence[Item]) -> "asyncio.Future[None]":
        """Return what is done when the work is, for these items. It raises what the work raised for its group."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, done))
        if sum(len(waiting) for waiting, _ in self._waiting) >= self._limit:
            self.flush()
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return done

    def flush(self) -> None:
        """Begin with all that waits as soon as the work under way is done."""
        if self._waiting:
            self._hurried.set()

    async def _run(self) -> None:
        try:
            while self._waiting:
                group: _Group[Item] = []
                try:
                    await self._wait_for_batch()
                    group = self._next_group()
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

    async def _wait_for_batch(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurried.wait(), self._patience_s)

    def _next_group(self) -> "_Group[Item]":
        count, size = 0, 0
        for items, _ in self._waiting:
            size += len(items)
            if count and size > self._limit:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        if not self._waiting:
            self._hurried.clear()
        return group


def _tell(group: "_Group[Item]", error: BaseException | None) -> None:
    for _, done in group:
        if done.done():
            continue  # its caller was cancelled
        if error is None:
            done.set_result(None)
        elif isinstance(error, asyncio.CancelledError):
            done.cancel()
        else:
            done.set_exception(error)
