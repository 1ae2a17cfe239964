"""A run's record in MLflow, whether or not its server answers.

Owns what is told at once and what is kept for later: events go to the store, or into a journal beside the run when
it does not take them, and from there to the store when it does again. Must not see message text: it gets counts,
losses and digests. Must not know MLflow's calls.
"""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mongars.training.tracking.journal import Event, Journal
from mongars.training.tracking.mlflow_store import MlflowStore, batched
from mongars.training.tracking.run_id import remember_run_id, told_run_id

logger = logging.getLogger(__name__)

# An attempt takes 20 s at worst (mlflow_store.py), on the thread that tells: never more than a part of its time.
PAUSE_S = 60.0
JOURNAL = ".journal.jsonl"


class RunTracker:
    """One run in a tracking store, a SQLite URL or a server's.

    A server that does not answer, at the start or later, does not end it. `place` is the run's folder:
    `<place>.run.json` names the MLflow run, which the same run goes on in; `<place>.journal.jsonl` is there while
    something is untold.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        *,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        place: Path,
    ) -> None:
        """Start the run, or go on in it. Raises UnavailableError when the URI or the file cannot be right."""
        self._store = MlflowStore(uri)
        self._outbox = _Outbox(self._store, place)
        start = {"event": "start", "experiment": experiment, "name": name, "tags": dict(tags), "at": _now()}
        try:
            self._outbox.begin(start)
        except Exception as error:  # whether it is the setting's fault is the store's to say
            wrong = self._store.misconfigured(error)
            if wrong is not None:
                raise wrong from error
            self._outbox.keep(start, error)
        else:
            tell_ended_runs(self._store, place.parent)
        self.params(params)

    @property
    def run_id(self) -> str | None:
        """MLflow's id; None as long as no server has given one."""
        return self._outbox.run_id

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters, each of them once."""
        self._outbox.tell({"event": "params", "values": {key: str(value) for key, value in values.items()}})

    def dataset(self, name: str, version: str, digest: str) -> None:
        """Log what is trained on, by our own digest: MLflow's covers the first rows only."""
        self._outbox.tell({"event": "dataset", "name": name, "version": version, "digest": digest})

    def metrics(self, step: int, values: Mapping[str, float | None]) -> None:
        """Log a step's metrics; None is one that was not measured."""
        at = _now()
        metrics = [[key, value, at, step] for key, value in values.items() if value is not None]
        self._outbox.tell({"event": "metrics", "metrics": metrics})

    def finish(self, artifacts: Mapping[str, Path], *, model: tuple[str, str] | None = None) -> None:
        """Keep folders as artifacts, by name, and end the run as finished.

        `model` is (name, digest) of the artifact that is an adapter: a version in the model registry, and the
        candidate.
        """
        self._end("FINISHED", artifacts, model)

    def fail(self) -> None:
        """End the run as failed."""
        self._end("FAILED")

    def stop(self) -> None:
        """End the run as stopped by somebody; it may go on later."""
        self._end("KILLED")

    def _end(
        self,
        status: str,
        artifacts: Mapping[str, Path] | None = None,
        model: tuple[str, str] | None = None,
    ) -> None:
        folders = {name: str(folder) for name, folder in (artifacts or {}).items()}
        event = {"event": "end", "status": status, "at": _now(), "artifacts": folders, "model": model}
        self._outbox.tell(event, pause=False)


class _Outbox:
    """The way of one run's events to the store."""

    def __init__(self, store: MlflowStore, place: Path) -> None:
        self._store = store
        self._journal = Journal(place.with_name(f"{place.name}{JOURNAL}"))
        self._place = place
        self._asleep_until = 0.0
        self.run_id = told_run_id(place)

    def begin(self, event: Event) -> None:
        """Tell what an earlier start of the run left, then the start. Raises what the store raises."""
        if self._journal and not self.flush():
            raise ConnectionError("The tracking server does not take what is kept.")
        self._apply(event)

    def tell(self, event: Event, *, pause: bool = True) -> None:
        """Tell an event, or keep it. `pause`: not while the store is being left alone after a failure."""
        asleep = pause and time.monotonic() < self._asleep_until
        if not self._journal and not asleep:
            try:
                self._apply(event)
            except Exception as error:  # noqa: BLE001 (whatever MLflow raises must not end a training run)
                self.keep(event, error)
            return
        self._journal.append(event)
        if not asleep:
            self.flush()

    def keep(self, event: Event, error: Exception) -> None:
        """Write an event into the journal that the store did not take."""
        self._journal.append(event)
        self._failed(error)

    def flush(self) -> bool:
        """Tell what is kept, and say whether that was all. What was told is not kept any longer."""
        events = batched(self._journal.read())
        for told, event in enumerate(events):
            try:
                self._apply(event)
            except Exception as error:  # noqa: BLE001 (as above)
                self._journal.replace(events[told:])
                self._failed(error)
                return False
        self._journal.replace([])
        logger.info("The tracking server has all of %s.", self._journal.path.name.removesuffix(JOURNAL))
        return True

    def ended(self) -> bool:
        """Say whether the last that is kept is the run's end, so that no process adds to it."""
        return any(event["event"] == "end" for event in self._journal.read()[-1:])

    def _apply(self, event: Event) -> None:
        if event["event"] == "start":
            self.run_id = self._store.begin(event, self.run_id)
            remember_run_id(self._place, self.run_id)
        else:
            assert self.run_id is not None, "a start is told before anything else"
            self._store.tell(event, self.run_id)

    def _failed(self, error: Exception) -> None:
        self._asleep_until = time.monotonic() + PAUSE_S
        logger.warning(
            "MLflow did not take it (%s); the run goes on, its record is kept in %s.",
            type(error).__name__,
            self._journal.path.name,
        )


def tell_ended_runs(store: MlflowStore, folder: Path) -> bool:
    """Tell of the runs in a folder that ended while the server was away; say whether it took all of them."""
    for journal in sorted(folder.glob(f"*{JOURNAL}")):
        other = _Outbox(store, journal.with_name(journal.name.removesuffix(JOURNAL)))
        if other.ended() and not other.flush():
            return False
    return True


def _now() -> int:
    """Return the time as MLflow has it: milliseconds since 1970."""
    return time.time_ns() // 1_000_000
