"""The talk with MLflow: one event of a run at a time.

Owns MLflow's calls, its errors, and the bounds on its patience. Must not know what is kept for later. MLflow is
imported late, in the process that tracks: its import takes 2 s.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from mongars.errors import UnavailableError
from mongars.storage.atomic import private_folder
from mongars.training.tracking.journal import Event
from mongars.training.tracking.model_versions import REASON, REASON_LENGTH, VERDICT, ModelVersions

BATCH = 1000  # metrics that MLflow takes in a request
DIGEST = 36  # characters of a dataset's digest that MLflow holds
# By default MLflow's client tries for some 4 minutes (7 times, 120 s each at worst). What it does not take is kept
# here and sent later, so one more attempt is enough: for a connection that the server closed while it was idle.
ATTEMPTS_AGAIN = 1
TIMEOUT_S = 10
REFUSED = range(400, 500)
LATER = (408, 429)  # of these: timeout, too many requests


class MlflowStore:
    """A tracking store, by a SQLite URL or a server's."""

    def __init__(self, uri: str) -> None:
        for noisy in ("alembic", "mlflow.store.db.utils"):  # a line for each migration of a new SQLite file
            logging.getLogger(noisy).setLevel(logging.WARNING)
        self._uri = uri
        self._known_client: Any = None

    @property
    def remote(self) -> bool:
        """Whether it is a server, which may be away; a file is not, unless something is wrong."""
        return urlparse(self._uri).scheme in ("http", "https")

    def begin(self, event: Event, run_id: str | None) -> str:
        """Go on in a run that the store has, or make one; return its id."""
        from mlflow.entities import RunTag

        if run_id is None or not self._has(run_id):
            experiment = self._experiment(event["experiment"])
            run = self._client.create_run(experiment, start_time=event["at"], run_name=event["name"])
            run_id = str(run.info.run_id)
        else:
            self._client.update_run(run_id, status="RUNNING")
        tags = [RunTag(key, value) for key, value in event["tags"].items()]
        self._client.log_batch(run_id, tags=tags)
        return run_id

    def tell(self, event: Event, run_id: str) -> None:
        """Apply any other event. To tell one twice does no harm."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

        match event["event"]:
            case "params":
                params = [Param(key, value) for key, value in event["values"].items()]
                self._client.log_batch(run_id, params=params)
            case "metrics":
                self._client.log_batch(run_id, metrics=[Metric(*metric) for metric in event["metrics"]])
            case "dataset":
                source = f"{event['name']}@{event['version']} sha256:{event['digest']}"
                dataset = Dataset(event["name"], event["digest"][:DIGEST], "mongars", source)
                context = InputTag("mlflow.data.context", "training")
                self._client.log_inputs(run_id, [DatasetInput(dataset, [context])])
            case "end":
                for name, folder in event["artifacts"].items():
                    if Path(folder).is_dir():  # it may have been removed before it could be told
                        self._client.log_artifacts(run_id, folder, artifact_path=name)
                self._client.set_terminated(run_id, status=event["status"], end_time=event["at"])
                if event.get("model"):
                    self._add_candidate(event, run_id)
            case "judged":
                self._judged(event, run_id)
            case "served":
                ModelVersions(self._client).set_champion(event["digest"], event["generation"])

    def misconfigured(self, error: Exception) -> UnavailableError | None:
        """Return the error to raise where not the server's absence but the setting is at fault, else None."""
        from mlflow.exceptions import InvalidUrlException, MlflowException

        if not isinstance(error, (MlflowException, OSError)):
            raise error
        answered = isinstance(error, MlflowException) and error.get_http_status_code()
        refused = answered in REFUSED and answered not in LATER
        if self.remote and not refused and not isinstance(error, InvalidUrlException):
            return None
        return UnavailableError(
            f"The MLflow tracking store cannot be used ({type(error).__name__}).",
            remedy="Check MONGARS_MLFLOW_TRACKING_URI.",
        )

    def _add_candidate(self, event: Event, run_id: str) -> None:
        artifact, digest = event["model"]
        place = self._client.get_run(run_id).info.artifact_uri
        ModelVersions(self._client).add_candidate(digest, f"{place}/{artifact}", run_id, event["at"])

    def _judged(self, event: Event, run_id: str) -> None:
        from mlflow.entities import Metric, RunTag

        if self._has(run_id):
            metrics = [Metric(name, value, event["at"], 0) for name, value in event["metrics"].items()]
            tags = [RunTag(VERDICT, event["verdict"]), RunTag(REASON, event["reason"][:REASON_LENGTH])]
            self._client.log_batch(run_id, metrics=metrics, tags=tags)
        ModelVersions(self._client).judge(event["digest"], event["verdict"], event["reason"])

    @property
    def _client(self) -> Any:
        if self._known_client is None:
            from mlflow import MlflowClient
            from mlflow.environment_variables import (
                MLFLOW_HTTP_REQUEST_MAX_RETRIES,
                MLFLOW_HTTP_REQUEST_TIMEOUT,
                MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT,
            )

            ours = {
                MLFLOW_HTTP_REQUEST_MAX_RETRIES: ATTEMPTS_AGAIN,
                MLFLOW_HTTP_REQUEST_TIMEOUT: TIMEOUT_S,
                MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT: True,  # stdout is for data
            }
            for variable, value in ours.items():
                if not variable.is_set():  # the operator's own choice stands
                    variable.set(value)
            file = self._sqlite_file()
            if file:
                private_folder(file.parent)
            self._known_client = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        return self._known_client

    def _has(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            stage = self._client.get_run(run_id).info.lifecycle_stage
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False  # of another store
        return bool(stage == "active")  # else somebody deleted it

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found:
            return str(found.experiment_id)
        # Artifacts go beside a file, not into the working directory; a server has its own place.
        file = self._sqlite_file()
        artifacts = (file.parent / "mlflow-artifacts").resolve().as_uri() if file else None
        return str(self._client.create_experiment(name, artifact_location=artifacts))

    def _sqlite_file(self) -> Path | None:
        """Return the file of a SQLite URL (sqlite:///relative, sqlite:////absolute), else None."""
        parsed = urlparse(self._uri)
        return Path(parsed.path[1:]) if parsed.scheme.startswith("sqlite") else None


def batched(events: Sequence[Event]) -> list[Event]:
    """Return the same events with metrics that follow each other in as few requests as MLflow allows."""
    joined: list[dict[str, Any]] = []
    for event in events:
        last: Mapping[str, Any] = joined[-1] if joined else {}
        if event["event"] == last.get("event") == "metrics":
            metrics = [*last["metrics"], *event["metrics"]]
            if len(metrics) <= BATCH:
                joined[-1] = {"event": "metrics", "metrics": metrics}
                continue
        joined.append(dict(event))
    return list(joined)
