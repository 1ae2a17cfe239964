"""The record in MLflow of a run and of what became of its adapter: counts, losses and digests, never text.

What MLflow does not take waits in `<run>.journal.jsonl` next to the run's folder: for the run's next event, or for
the next start of this run or, once it has ended, of any run in the same place.
"""

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mongars.storage.atomic import write_atomically
from mongars.storage.digests import canonical_json
from mongars.storage.lock import file_lock
from mongars.training.tracking.mlflow_store import GONE, MAX_TAG, REASON, VERDICT, MlflowStore, ignoring

logger = logging.getLogger(__name__)
JOURNAL, LOCK, SIDECAR = ".journal.jsonl", ".journal.lock", ".run.json"  # not in the folder, which has a digest
UNENDED = tuple(f'{{"event": "{event}"'.encode() for event in ("start", "log", "dataset"))
UNREADABLE = (AttributeError, KeyError, TypeError, ValueError)  # what events of another version raise
PAUSE_S = 60.0  # after a failed attempt: each one may block the training loop for seconds
LOCK_S = 600.0  # while another process sends the events of an ended run
MAX_METRICS, MS = 1000, 1_000_000  # of one request to MLflow; nanoseconds of its unit of time


class _Outbox:
    """Sends the events of each run in a folder in order, or keeps them in the run's journal."""

    def __init__(self, uri: str, runs: Path) -> None:
        self._store, self._runs, self._retry_at = MlflowStore(uri), runs, 0.0

    def send(self, run: Path, event: str, *, first: bool = False, **arguments: Any) -> None:
        """Send an event after those that wait. The `first` one raises UnavailableError for an unusable store."""
        latest = {"event": event, **arguments}
        line, due = json.dumps(latest).encode() + b"\n", event == "end" or time.monotonic() >= self._retry_at
        with file_lock(Path(f"{run}{LOCK}"), LOCK_S):
            if kept := not (due and line.startswith(UNENDED)):  # an attempt may hang until this process is killed
                with Path(f"{run}{JOURNAL}").open("ab", buffering=0) as stream:
                    stream.write(line)
                    os.fsync(stream.fileno())
            if due:
                self._deliver(run, [latest], kept=kept, strict=first)

    def flush_ended(self) -> None:
        """Send what waits of runs that have ended: no training process adds to their journals."""
        for journal in sorted(self._runs.glob(f"*{JOURNAL}")):
            run = journal.with_name(journal.name.removesuffix(JOURNAL))
            with file_lock(Path(f"{run}{LOCK}"), LOCK_S):
                self._deliver(run, [])

    def _deliver(self, run: Path, latest: list[Any], *, kept: bool = False, strict: bool = False) -> None:
        """Send what waits, and the latest event unless it is `kept` there; without one, of an ended run only."""
        journal, left = Path(f"{run}{JOURNAL}"), latest[kept:]
        *lines, _ = (journal.read_bytes() if journal.exists() else b"").split(b"\n")  # a crash may cut off one
        if not latest and (time.monotonic() < self._retry_at or not lines or lines[-1].startswith(UNENDED)):
            return
        try:
            left = _joined([*map(json.loads, lines), *left])
            while left:
                self._apply(run, **left[0])
                del left[0]
        except Exception as error:  # noqa: BLE001 (whatever MLflow raises must not end a training run)
            if lines and isinstance(error, UNREADABLE):
                logger.warning("%s cannot be read (%s) and is set aside.", journal.name, type(error).__name__)
                journal.replace(f"{journal}.unreadable")
                self._deliver(run, latest, strict=strict)
                return
            if strict:
                self._store.check(error)
            self._retry_at = time.monotonic() + PAUSE_S
            logger.warning("MLflow failed (%s). %s keeps the record.", type(error).__name__, journal.name)
        if left:
            write_atomically(journal, "".join(json.dumps(each) + "\n" for each in left).encode())
        else:
            journal.unlink(missing_ok=True)

    def _apply(self, run: Path, event: str, **arguments: Any) -> None:
        run_id = mlflow_run_id(run)
        if event == "start":
            started = self._store.start(run_id, **arguments)
            write_atomically(Path(f"{run}{SIDECAR}"), canonical_json({"run_id": started}))
        else:
            with ignoring(*GONE, event=event):
                getattr(self._store, event)(run_id or "none", **arguments)


class RunTracker:
    """Records the run whose folder is `place`; a later start of it continues the same MLflow run."""

    def __init__(
        self, uri: str, experiment: str, *, params: Mapping[str, Any], tags: Mapping[str, str], place: Path
    ) -> None:
        """Start or resume the run. Raises UnavailableError for a wrong URI or a store that refuses."""
        self._outbox, self._place = _Outbox(uri, place.parent), place
        at, tags = time.time_ns() // MS, dict(tags)
        self._outbox.send(place, "start", first=True, experiment=experiment, name=place.name, tags=tags, at=at)
        self._outbox.flush_ended()
        self.params(params)

    def params(self, values: Mapping[str, Any]) -> None:
        self._outbox.send(self._place, "log", params=[(key, str(value)) for key, value in values.items()])

    def dataset(self, name: str, version: str, digest: str) -> None:
        """Log the dataset by our own digest: MLflow's covers the first rows only."""
        self._outbox.send(self._place, "dataset", name=name, version=version, digest=digest)

    def metrics(self, step: int, values: Mapping[str, float | None]) -> None:
        """Log the metrics of a step; None means not measured."""
        metrics = [(key, value, time.time_ns() // MS, step) for key, value in values.items() if value is not None]
        self._outbox.send(self._place, "log", metrics=metrics)

    def end(self, status: str, name: str = "", folder: Path | str = "", *, digest: str = "") -> None:
        """Upload a folder as artifact `name`, with a digest for an adapter, and end the run."""
        at, folder = time.time_ns() // MS, str(folder)
        self._outbox.send(self._place, "end", status=status, at=at, name=name, folder=folder, digest=digest)


class AdapterOutcomes(_Outbox):
    """Records what became of the adapters whose runs are in a folder; a server that is down does not matter."""

    def judged(self, run: str, digest: str, verdict: str, reason: str, metrics: Mapping[str, float]) -> None:
        """Record the gate's decision on the adapter of a run, named by its folder, and the figures behind it."""
        figures = [(name, value, time.time_ns() // MS, 0) for name, value in metrics.items()]
        tags = {REASON: reason[:MAX_TAG], VERDICT: verdict}
        self.send(self._runs / run, "judged", digest=digest, tags=tags, metrics=figures)

    def served(self, run: str, digest: str, generation: int) -> None:
        """Record which adapter a generation of the manifest serves; `run` is the current cycle's."""
        self.send(self._runs / run, "served", digest=digest, generation=generation)


def mlflow_run_id(run: Path) -> str | None:
    """Return MLflow's id of the run in a folder; None until a store has given one."""
    sidecar = Path(f"{run}{SIDECAR}")
    return str(json.loads(sidecar.read_text(encoding="utf-8"))["run_id"]) if sidecar.exists() else None


def _joined(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join the metrics of neighbouring events into as few requests as MLflow allows."""
    joined: list[dict[str, Any]] = []
    for event in events:
        last = joined[-1] if joined else {}
        metrics = [*last.get("metrics", ()), *event.get("metrics", ())]
        if event.keys() == last.keys() == {"event", "metrics"} and len(metrics) <= MAX_METRICS:
            last["metrics"] = metrics
        else:
            joined.append(dict(event))
    return joined
