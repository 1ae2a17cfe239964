"""The thread that embeds: texts of all requests that wait share batches of like length.

Owns the thread and the choice of a batch. Must not know adapters, asyncio or HTTP. A batch is of one version,
because each version is a module tree of its own. Batches are led in turns by the oldest text that waits, so that
nobody starves, and by the smallest request: what a user asks does not wait for a thousand texts to be indexed. Nor
for a batch that takes long: it gets as many tokens as this base embeds in BATCH_S on this machine.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from mongars.neurons.neurons import Neurons, TokenWindows
from mongars.serving.engine.admission import closing_error

LONGER = 2
"""How many times as long as the first of a small request a window may be to share its batch."""
BATCH_S = 0.2
"""Seconds that a batch may take: in one thread of two cores mongars-nano embeds the most tokens of a batch in them
(2,048), where a base of 111 M parameters takes 2.4 s for so many (docs/results/2026-11-27-serving.md)."""
LEAST_TOKENS = 128
"""Tokens that a batch may have however slow the base is."""
TELLING_TOKENS = LEAST_TOKENS // 2
"""With fewer a batch says what any batch costs, not the pace. More than half of the least are in a full batch of
windows of any one length: were more asked for, the pace of texts of 50 tokens would never be known."""


@dataclass(eq=False, slots=True)
class _Job:
    """A request under way: what its texts' tokens sum to so far."""

    neurons: Neurons
    sums: Tensor
    left: int  # windows that are not read yet
    dimensions: int | None
    tokens: int
    result: "Future[tuple[np.ndarray, int]]" = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class _Window:
    """A window that waits, with its request."""

    job: _Job
    text: int
    ids: list[int]


@dataclass(slots=True)
class Pace:
    """How fast batches are embedded, and how many tokens the next one may have."""

    tokens_per_s: float = 0.0

    def budget(self, most: int) -> int:
        """Return how many tokens take BATCH_S, at least LEAST_TOKENS and at most `most`."""
        return min(most, max(LEAST_TOKENS, round(self.tokens_per_s * BATCH_S)))

    def learn(self, tokens: int, seconds: float) -> None:
        """Note how long a batch of so many tokens took, if it has enough of them to tell the pace."""
        if tokens > TELLING_TOKENS:
            self.tokens_per_s = tokens / max(seconds, 1e-9)


class EmbeddingScheduler:
    """Embeds what is submitted, from any thread, until it is closed."""

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._pace, self._clock = Pace(), clock
        self._waiting: list[_Window] = []  # in order of arrival
        self._changed = threading.Condition()
        self._closed = False
        self._smallest_leads = False
        self._thread = threading.Thread(target=self._run, name="mongars-embedding", daemon=True)
        self._thread.start()

    def submit(
        self, neurons: Neurons, windows: TokenWindows, dimensions: int | None
    ) -> "Future[tuple[np.ndarray, int]]":
        """Return what becomes the vectors [texts, dimensions] of a reading, and its count of tokens.

        A request whose future is cancelled is dropped with the next batch.
        """
        job = _Job(neurons, neurons.zeros(windows.texts), len(windows.windows), dimensions, windows.tokens)
        with self._changed:
            if self._closed:
                job.result.set_exception(closing_error())
            elif not windows.windows:
                job.result.set_result((neurons.vectors(job.sums, dimensions), 0))
            else:
                self._waiting += [_Window(job, text, ids) for text, ids in windows.windows]
                self._changed.notify()
        return job.result

    def close(self) -> None:
        """Stop after the batch that runs; requests under way end with an error."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            try:
                self._embed(batch)
            except Exception as error:  # noqa: BLE001 (raised again where each request is awaited)
                for window in batch:
                    _fail(window.job, error)
        for window in self._waiting:
            _fail(window.job, closing_error())

    def _next(self) -> list[_Window] | None:
        """Wait for texts and take the next batch; return None once closed."""
        with self._changed:
            while not self._closed:
                self._waiting = [window for window in self._waiting if not window.job.result.done()]
                if self._waiting:
                    next_batch = batch_of_smallest if self._smallest_leads else batch_of_oldest
                    self._smallest_leads = not self._smallest_leads
                    batch = next_batch(self._waiting, self._pace)
                    taken = set(map(id, batch))
                    self._waiting = [window for window in self._waiting if id(window) not in taken]
                    return batch
                self._changed.wait()
        return None

    def _embed(self, batch: Sequence[_Window]) -> None:
        neurons, started = batch[0].job.neurons, self._clock()
        means = neurons.means([window.ids for window in batch])
        self._pace.learn(sum(len(window.ids) for window in batch), self._clock() - started)
        for window, mean in zip(batch, means, strict=True):
            job = window.job
            job.sums[window.text] += mean * len(window.ids)
            job.left -= 1
            if not job.left and _begin_result(job):
                job.result.set_result((neurons.vectors(job.sums, job.dimensions), job.tokens))


def batch_of_oldest(waiting: Sequence[_Window], pace: Pace) -> list[_Window]:
    """Return the oldest window and those of its version nearest to it in length, within the token budget."""
    return _nearest(waiting[0], waiting, pace)


def batch_of_smallest(waiting: Sequence[_Window], pace: Pace) -> list[_Window]:
    """Return a batch of the request with the fewest tokens, with nothing much longer that it would wait for."""
    lead = min(waiting, key=lambda window: window.job.tokens)
    if lead.job is waiting[0].job:
        return batch_of_oldest(waiting, pace)
    longest = len(lead.ids) * LONGER
    return _nearest(lead, [window for window in waiting if len(window.ids) <= longest], pace)


def _nearest(lead: _Window, waiting: Sequence[_Window], pace: Pace) -> list[_Window]:
    neurons, length = lead.job.neurons, len(lead.ids)
    budget = pace.budget(neurons.token_budget)
    same = [window for window in waiting if window.job.neurons is neurons]
    batch: list[_Window] = []
    longest = 0
    for window in sorted(same, key=lambda window: (window is not lead, abs(len(window.ids) - length))):
        longest = max(longest, len(window.ids))
        if batch and longest * (len(batch) + 1) > budget:
            break
        batch.append(window)
    return batch


def _fail(job: _Job, error: BaseException) -> None:
    if _begin_result(job):
        job.result.set_exception(error)


def _begin_result(job: _Job) -> bool:
    """Return whether a result is still wanted; from here on it cannot be cancelled."""
    return not job.result.done() and job.result.set_running_or_notify_cancel()
