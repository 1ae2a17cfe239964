"""The thread that embeds: texts of all requests that wait share batches of like length.

Owns the thread and the choice of a batch. Must not know adapters, asyncio or HTTP. A batch is of one version,
because each version is a module tree of its own. Batches are led in turns by the oldest text that waits, so that
nobody starves, and by the smallest request: what a user asks does not wait for a thousand texts to be indexed.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from mongars.neurons.neurons import Neurons, Reading
from mongars.serving.bound import closing_error

LONGER = 2
"""How many times as long as the first of a small request a window may be to share its batch."""


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


class EmbeddingScheduler:
    """Embeds what is submitted, from any thread, until it is closed."""

    def __init__(self) -> None:
        self._waiting: list[_Window] = []  # in order of arrival
        self._changed = threading.Condition()
        self._closed = False
        self._smallest_leads = False
        self._thread = threading.Thread(target=self._run, name="mongars-embedding", daemon=True)
        self._thread.start()

    def submit(
        self, neurons: Neurons, reading: Reading, dimensions: int | None
    ) -> "Future[tuple[np.ndarray, int]]":
        """Return what becomes the vectors [texts, dimensions] of a reading, and its count of tokens.

        A request whose future is cancelled is dropped with the next batch.
        """
        job = _Job(neurons, neurons.zeros(reading.texts), len(reading.windows), dimensions, reading.tokens)
        with self._changed:
            if self._closed:
                job.result.set_exception(closing_error())
            elif not reading.windows:
                job.result.set_result((neurons.vectors(job.sums, dimensions), 0))
            else:
                self._waiting += [_Window(job, text, ids) for text, ids in reading.windows]
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
                    choose = batch_of_smallest if self._smallest_leads else batch_of_oldest
                    self._smallest_leads = not self._smallest_leads
                    batch = choose(self._waiting)
                    taken = set(map(id, batch))
                    self._waiting = [window for window in self._waiting if id(window) not in taken]
                    return batch
                self._changed.wait()
        return None

    @staticmethod
    def _embed(batch: Sequence[_Window]) -> None:
        neurons = batch[0].job.neurons
        for window, mean in zip(batch, neurons.means([window.ids for window in batch]), strict=True):
            job = window.job
            job.sums[window.text] += mean * len(window.ids)
            job.left -= 1
            if not job.left and _begin_result(job):
                job.result.set_result((neurons.vectors(job.sums, job.dimensions), job.tokens))


def batch_of_oldest(waiting: Sequence[_Window]) -> list[_Window]:
    """Return the oldest window and those of its version nearest to it in length, within the token budget."""
    return _nearest(waiting[0], waiting)


def batch_of_smallest(waiting: Sequence[_Window]) -> list[_Window]:
    """Return a batch of the request with the fewest tokens, with nothing much longer that it would wait for."""
    lead = min(waiting, key=lambda window: window.job.tokens)
    if lead.job is waiting[0].job:
        return batch_of_oldest(waiting)
    longest = len(lead.ids) * LONGER
    return _nearest(lead, [window for window in waiting if len(window.ids) <= longest])


def _nearest(lead: _Window, waiting: Sequence[_Window]) -> list[_Window]:
    neurons, length = lead.job.neurons, len(lead.ids)
    same = [window for window in waiting if window.job.neurons is neurons]
    batch: list[_Window] = []
    longest = 0
    for window in sorted(same, key=lambda window: (window is not lead, abs(len(window.ids) - length))):
        longest = max(longest, len(window.ids))
        if batch and longest * (len(batch) + 1) > neurons.token_budget:
            break
        batch.append(window)
    return batch


def _fail(job: _Job, error: BaseException) -> None:
    if _begin_result(job):
        job.result.set_exception(error)


def _begin_result(job: _Job) -> bool:
    """Return whether a result is still wanted; from here on it cannot be cancelled."""
    return not job.result.done() and job.result.set_running_or_notify_cancel()
