"""The record in MLflow of a run and of what became of its adapter: counts, losses and digests, never text.

What MLflow does not take waits in `<run>.journal.jsonl` next to the run's folder: for the run's next event, or for
the next start of this run or, once it has ended, of any run in the same place.
"""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mongars.storage.atomic import write_atomically
from mongars.storage.digests import canonical_json
from mongars.training.tracking.mlflow_store import GONE, MAX_TAG, REASON, VERDICT, MlflowStore, ignoring

logger = logging.getLogger(__name__)
JOURNAL, SIDECAR = ".journal.jsonl", ".run.json"
ENDED = ("end", "judged", "served")  # events to which a run's process adds none
PAUSE_S = 60.0  # after a failed attempt: each one may block the training loop for seconds
MAX_METRICS = 1000  # of one request to MLflow
MS = 1_000_000  # nanoseconds of MLflow's unit of time


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
        """Log parameters, each of them once."""
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


class AdapterOutcomes:
    """Records what became of the adapters whose runs are in a folder; a server that is down does not matter."""

    def __init__(self, uri: str, runs: Path) -> None:
        self._outbox, self._runs = _Outbox(uri, runs), runs

    def judged(self, run: str, digest: str, verdict: str, reason: str, metrics: Mapping[str, float]) -> None:
        """Record the gate's decision on the adapter of a run, named by its folder, and the figures behind it."""
        figures = [(name, value, time.time_ns() // MS, 0) for name, value in metrics.items()]
        tags = {REASON: reason[:MAX_TAG], VERDICT: verdict}
        self._outbox.send(self._runs / run, "judged", digest=digest, tags=tags, metrics=figures)

    def served(self, run: str, digest: str, generation: int) -> None:
        """Record which adapter a generation of the manifest serves; `run` is the current cycle's."""
        self._outbox.send(self._runs / run, "served", digest=digest, generation=generation)


class _Outbox:
    """Sends the events of each run in a folder in order, or keeps them in the run's journal."""

    def __init__(self, uri: str, runs: Path) -> None:
        self._store, self._runs, self._retry_at = MlflowStore(uri), runs, 0.0

    def send(self, run: Path, event: str, *, first: bool = False, **arguments: Any) -> None:
        """Send an event after those that wait. The `first` one raises UnavailableError for an unusable store."""
        journal, latest = _next_to(run, JOURNAL), {"event": event, **arguments}
        if time.monotonic() >= self._retry_at:
            self._deliver(run, [*_waiting(journal), latest], strict=first)
        else:
            with journal.open("a") as stream:
                stream.write(json.dumps(latest) + "\n")

    def flush_ended(self) -> None:
        """Send what waits of runs that have ended: no process adds to their journals."""
        for journal in sorted(self._runs.glob(f"*{JOURNAL}")):
            events = _waiting(journal)
            if events and events[-1]["event"] in ENDED and time.monotonic() >= self._retry_at:
                self._deliver(journal.with_name(journal.name.removesuffix(JOURNAL)), events)

    def _deliver(self, run: Path, events: list[dict[str, Any]], *, strict: bool = False) -> None:
        journal, waiting = _next_to(run, JOURNAL), _joined(events)
        while waiting:
            try:
                self._apply(run, **waiting[0])
            except Exception as error:  # noqa: BLE001 (whatever MLflow raises must not end a training run)
                if strict:
                    self._store.check(error)
                write_atomically(journal, "".join(json.dumps(each) + "\n" for each in waiting).encode())
                self._retry_at = time.monotonic() + PAUSE_S
                logger.warning("MLflow failed (%s). %s keeps the record.", type(error).__name__, journal.name)
                return
            del waiting[0]
        journal.unlink(missing_ok=True)

    def _apply(self, run: Path, event: str, **arguments: Any) -> None:
        run_id = mlflow_run_id(run)
        if event == "start":
            started = self._store.start(run_id, **arguments)
            write_atomically(_next_to(run, SIDECAR), canonical_json({"run_id": started}))
        elif run_id is not None:  # else no store ever had the run
            with ignoring(*GONE):
                getattr(self._store, event)(run_id, **arguments)


def mlflow_run_id(run: Path) -> str | None:
    """Return MLflow's id of the run in a folder; None until a store has given one."""
    sidecar = _next_to(run, SIDECAR)
    return str(json.loads(sidecar.read_text(encoding="utf-8"))["run_id"]) if sidecar.exists() else None


def _next_to(run: Path, suffix: str) -> Path:
    return run.with_name(f"{run.name}{suffix}")  # not inside, where it would change the folder's digest


def _waiting(journal: Path) -> list[dict[str, Any]]:
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []  # a crash may cut the last one off
    return [json.loads(line) for line in lines]


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
