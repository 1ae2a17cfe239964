"""What became of a trained adapter, told to MLflow after its run has ended.

Owns the reports that no server took yet: a file each beside the runs, named by its time, so that they are told in
their order, whichever run they are of. A report is written before it is told and never changed; to tell one twice
does no harm, so two processes may do it at once. Must not know MLflow's calls, nor what the gate compares.
"""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from mongars.training.tracking.journal import Event, Journal
from mongars.training.tracking.mlflow_store import MlflowStore
from mongars.training.tracking.run_id import told_run_id
from mongars.training.tracking.tracker import PAUSE_S, tell_ended_runs

logger = logging.getLogger(__name__)

SUFFIX = ".outcome.jsonl"
Verdict = Literal["promoted", "rejected"]


class Outcomes:
    """The reports of the runs in a folder. Nothing here raises because a server is away."""

    def __init__(self, uri: str, runs: Path) -> None:
        self._store = MlflowStore(uri)
        self._runs = runs
        self._asleep_until = 0.0

    def judged(self, run: str, digest: str, verdict: Verdict, reason: str, metrics: Mapping[str, float]) -> None:
        """Tell how the gate decided on the adapter of a run, named by its folder, and the figures that it saw."""
        figures = dict(metrics)
        self._tell(
            run, {"event": "judged", "digest": digest, "verdict": verdict, "reason": reason} | {"metrics": figures}
        )

    def served(self, run: str, digest: str, generation: int) -> None:
        """Tell which adapter a generation of the manifest serves; `run` is the one that is at hand."""
        self._tell(run, {"event": "served", "digest": digest, "generation": generation})

    def _tell(self, run: str, event: Event) -> None:
        at = time.time_ns()
        kept = Journal(self._runs / f"{at}.{run}{SUFFIX}")
        kept.append({**event, "run": run, "at": at // 1_000_000})
        if time.monotonic() >= self._asleep_until and not self._told():
            self._asleep_until = time.monotonic() + PAUSE_S

    def _told(self) -> bool:
        """Tell what is kept, the oldest first, runs before what became of them; say whether all was taken."""
        if not tell_ended_runs(self._store, self._runs):
            return False
        for path in sorted(self._runs.glob(f"*{SUFFIX}")):
            kept = Journal(path)
            try:
                for event in kept.read():
                    self._tell_one(event)
            except Exception as error:  # noqa: BLE001 (whatever MLflow raises must not end a cycle)
                logger.warning(
                    "MLflow did not take it (%s); what became of the adapter is kept in %s.",
                    type(error).__name__,
                    path.name,
                )
                return False
            kept.replace([])
        return True

    def _tell_one(self, event: Event) -> None:
        run_id = told_run_id(self._runs / event["run"])
        if run_id is None:
            logger.warning("MLflow knows no run %s, so it is not told what became of it.", event["run"])
        else:
            self._store.tell(event, run_id)
