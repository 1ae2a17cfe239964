"""The thread that embeds: texts of all waiting requests share batches of similar length.

A batch is of one version, because each version is its own module tree. Batches alternate between the oldest
waiting text, so that no request starves, and the smallest request, so that a user's question does not wait for
a thousand texts to be indexed. A batch takes about BATCH_S: its token budget follows the measured pace.
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
"""Longest window in the batch of a small request, as a multiple of its first window."""
BATCH_S = 0.2
"""Seconds that a batch may take (docs/results/serving.md)."""
LEAST_TOKENS = 128
"""Smallest token budget, however slow the base is."""
MEASURED_TOKENS = LEAST_TOKENS // 2
"""Smaller batches measure the fixed cost of a batch, not the pace. A full batch of the smallest budget has more
than half of it, whatever the length of its windows, so the pace of any texts is measured."""


@dataclass(eq=False, slots=True)
class _Job:
    """A request under way, with the sums of its texts' states so far."""

    neurons: Neurons
    sums: Tensor
    left: int  # windows that are not embedded yet
    dimensions: int | None
    tokens: int
    result: "Future[tuple[np.ndarray, int]]" = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class _Window:
    """A waiting window of a request."""

    job: _Job
    text: int
    ids: list[int]


@dataclass(slots=True)
class Pace:
    """The measured pace of embedding, which sets the token budget of the next batch."""

    tokens_per_s: float = 0.0

    def budget(self, limit: int) -> int:
        """Return how many tokens take BATCH_S, at least LEAST_TOKENS and at most `limit`."""
        return min(limit, max(LEAST_TOKENS, round(self.tokens_per_s * BATCH_S)))

    def learn(self, tokens: int, seconds: float) -> None:
        """Measure the pace by a batch, if it has enough tokens."""
        if tokens > MEASURED_TOKENS:
            self.tokens_per_s = tokens / max(seconds, 1e-9)


class EmbeddingScheduler:
    """Embeds submitted requests until it is closed. Methods may be called from any thread."""

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
        """Return the future of the vectors [texts, dimensions] of some texts and of their count of tokens.

        A request whose future is cancelled is dropped before the next batch.
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
        """Stop after the current batch; requests under way end with an error."""
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
        """Wait for texts and return the next batch; None once closed."""
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
    """Return the oldest window with others of its version and of similar length, within the token budget."""
    return _nearest(waiting[0], waiting, pace)


def batch_of_smallest(waiting: Sequence[_Window], pace: Pace) -> list[_Window]:
    """Return a batch for the request with the fewest tokens, without windows much longer than its own."""
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
    """Return whether the result is not cancelled; from here on it cannot be."""
    return not job.result.done() and job.result.set_running_or_notify_cancel()
