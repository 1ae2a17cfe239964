"""The thread that generates: it runs the forward passes of all versions that have sequences under way.

Each module tree has its own `ContinuousBatch`, because sequences of two versions never share keys and values. The
batches run one pass each in rotation.
"""

import threading

from torch import nn

from mongars.serving.engine.admission import closing_error
from mongars.serving.generation.batch import ContinuousBatch
from mongars.serving.generation.sequence import TokenSequence


class Scheduler:
    """Generates up to `rows` sequences of each version at once; see `ContinuousBatch`."""

    def __init__(self, *, rows: int, prefill_tokens: int, cache_bytes: int) -> None:
        self._options = {"rows": rows, "prefill_tokens": prefill_tokens, "cache_bytes": cache_bytes}
        self._batches: dict[int, ContinuousBatch] = {}
        self._arrived: list[tuple[nn.Module, TokenSequence]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="mongars-generation", daemon=True)
        self._thread.start()

    def submit(self, model: nn.Module, sequence: TokenSequence) -> None:
        """Start a sequence on a module tree; `sequence.result` is set when it ends."""
        with self._changed:
            if self._closed:
                sequence.fail(closing_error())
                return
            self._arrived.append((model, sequence))
            self._changed.notify()

    def close(self) -> None:
        """Stop after the current pass; sequences under way end with an error."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._admit():
            for tree, batch in list(self._batches.items()):
                try:
                    batch.step()
                except Exception as error:  # noqa: BLE001 (raised again where each result is awaited)
                    batch.fail(error)
                if not batch.busy:
                    del self._batches[tree]  # the version may be dropped; its next sequence makes a new batch
        for batch in self._batches.values():
            batch.fail(closing_error())
        for _, sequence in self._arrived:
            sequence.fail(closing_error())

    def _admit(self) -> bool:
        """Move new sequences to their batches, waiting while there is no work; return False once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._arrived or self._batches or self._closed)
            arrived, self._arrived = self._arrived, []
            if self._closed:
                self._arrived = arrived
                return False
        for model, sequence in arrived:
            self._batch(model).add(sequence)
        return True

    def _batch(self, model: nn.Module) -> ContinuousBatch:
        """Return the batch of a module tree. A batch keeps its tree alive, so the id stays unique."""
        if id(model) not in self._batches:
            self._batches[id(model)] = ContinuousBatch(model, **self._options)
        return self._batches[id(model)]
