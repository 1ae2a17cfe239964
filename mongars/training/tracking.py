"""A training run in MLflow.

Owns the talk with the tracking store. Must not see message text: it gets counts, losses and digests.
MLflow is imported late, in the process that tracks: its import takes 2 s.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from mongars.errors import UnavailableError
from mongars.files import private_folder


class RunTracker:
    """One run in a tracking store, a SQLite URL or a server's."""

    def __init__(
        self, uri: str, experiment: str, *, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        """Start the run. Raises UnavailableError when the store cannot be used."""
        for noisy in ("alembic", "mlflow.store.db.utils"):  # a line for each migration of a new SQLite file
            logging.getLogger(noisy).setLevel(logging.WARNING)
        from mlflow import MlflowClient
        from mlflow.entities import RunTag
        from mlflow.exceptions import MlflowException

        try:
            _make_parent(uri)
            self._client: Any = MlflowClient(tracking_uri=uri)
            run = self._client.create_run(_experiment(self._client, uri, experiment), run_name=name)
            self.run_id: str = run.info.run_id
            self._client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])
            self.params(params)
        except (MlflowException, OSError) as error:
            raise UnavailableError(
                f"The MLflow tracking store cannot be used ({type(error).__name__}).",
                remedy="Check MONGARS_MLFLOW_TRACKING_URI.",
            ) from error

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters, each of them once."""
        from mlflow.entities import Param

        self._client.log_batch(self.run_id, params=[Param(key, str(value)) for key, value in values.items()])

    def metrics(self, step: int, values: Mapping[str, float | None]) -> None:
        """Log a step's metrics; None is one that was not measured."""
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        at = get_current_time_millis()
        metrics = [Metric(key, value, at, step) for key, value in values.items() if value is not None]
        self._client.log_batch(self.run_id, metrics=metrics)

    def finish(self, artifacts: Mapping[str, Path]) -> None:
        """Keep folders as artifacts, by name, and end the run as finished."""
        for name, folder in artifacts.items():
            self._client.log_artifacts(self.run_id, str(folder), artifact_path=name)
        self._client.set_terminated(self.run_id, status="FINISHED")

    def fail(self) -> None:
        """End the run as failed."""
        self._client.set_terminated(self.run_id, status="FAILED")


def _sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite URL (sqlite:///relative, sqlite:////absolute), else None."""
    parsed = urlparse(uri)
    return Path(parsed.path[1:]) if parsed.scheme.startswith("sqlite") else None


def _make_parent(uri: str) -> None:
    file = _sqlite_file(uri)
    if file:
        private_folder(file.parent)


def _experiment(client: Any, uri: str, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    file = _sqlite_file(uri)  # artifacts go beside it, not into the working directory; a server has its own place
    artifacts = (file.parent / "mlflow-artifacts").resolve().as_uri() if file else None
    return str(client.create_experiment(name, artifact_location=artifacts))
