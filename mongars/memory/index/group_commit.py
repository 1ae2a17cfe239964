"""Group commit: work with a high fixed cost, done at once for all callers that wait for it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")
_Group = list[tuple[Sequence[Item], "asyncio.Future[None]"]]


class GroupCommit(Generic[Item]):
    """Calls `work` with the items that were added within `max_wait_s`, or during the previous call.

    A batch starts earlier when it has `limit` items or on `flush`. It never has more, unless a single caller adds
    more at once. Belongs to one event loop.
    """

    def __init__(
        self, work: Callable[[Sequence[Item]], Awaitable[None]], *, limit: int, max_wait_s: float = 0.0
    ) -> None:
        self._work = work
        self._limit = limit
        self._max_wait_s = max_wait_s
        self._flush_requested = asyncio.Event()
        self._waiting: _Group[Item] = []
        self._running: asyncio.Task[None] | None = None

    def add(self, items: Sequence[Item]) -> "asyncio.Future[None]":
        """Return a future that is done when the work on these items is; it raises what the work raised."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, done))
        if sum(len(waiting) for waiting, _ in self._waiting) >= self._limit:
            self.flush()
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return done

    def flush(self) -> None:
        """Start on all waiting items as soon as the current call is done."""
        if self._waiting:
            self._flush_requested.set()

    async def _run(self) -> None:
        try:
            while self._waiting:
                group: _Group[Item] = []
                try:
                    await self._wait_for_batch()
                    group = self._next_group()
                    await self._work([item for items, _ in group for item in items])
                except Exception as error:  # noqa: BLE001 (raised in each caller)
                    _resolve(group, error)
                except BaseException as error:  # cancelled with its event loop: no caller may wait any longer
                    _resolve([*group, *self._waiting], error)
                    self._waiting.clear()
                    raise
                else:
                    _resolve(group, None)
        finally:
            self._running = None

    async def _wait_for_batch(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._flush_requested.wait(), self._max_wait_s)

    def _next_group(self) -> "_Group[Item]":
        count, size = 0, 0
        for items, _ in self._waiting:
            size += len(items)
            if count and size > self._limit:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        if not self._waiting:
            self._flush_requested.clear()
        return group


def _resolve(group: "_Group[Item]", error: BaseException | None) -> None:
    for _, done in group:
        if done.done():
            continue  # its caller was cancelled
        if error is None:
            done.set_result(None)
        elif isinstance(error, asyncio.CancelledError):
            done.cancel()
        else:
            done.set_exception(error)
