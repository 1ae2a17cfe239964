"""Runs and their adapters in MLflow; repeating a call does no harm.

Each adapter is a version of one registered model, found by its digest. The alias `candidate` names the newest one
without a verdict, `champion` the one that the newest generation serves.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from mongars.errors import UnavailableError
from mongars.storage.atomic import private_folder

MODEL, CANDIDATE, CHAMPION = "mongars-encoder", "candidate", "champion"
DIGEST, MADE_AT, GENERATION = "mongars.digest", "mongars.made_at", "mongars.generation"
VERDICT, REASON = "mongars.verdict", "mongars.reason"
MAX_TAG, MAX_DATASET_DIGEST = 8000, 36  # characters that MLflow takes
GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # a run of another store, or a deleted one
REFUSALS = set(range(400, 500)) - {408, 429}  # HTTP statuses; the two are transient
TIMEOUTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}  # default: minutes
OUTPUT = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}


class MlflowStore:
    """A tracking store and model registry at a SQLite URL or a server's."""

    def __init__(self, uri: str) -> None:
        url = urlparse(uri)
        self._uri, self._is_remote = uri, url.scheme in ("http", "https")
        self._file = Path(url.path[1:]) if url.scheme.startswith("sqlite") else None

    @cached_property
    def _client(self) -> Any:
        for name, value in (TIMEOUTS | OUTPUT).items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient  # takes seconds

        if self._file:
            private_folder(self._file.parent)
        return MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    def check(self, error: Exception) -> None:
        """Raise UnavailableError for an error that a later attempt gets too; a server may only be down."""
        from mlflow.exceptions import InvalidUrlException, MlflowException

        if not isinstance(error, (MlflowException, OSError)):
            raise error
        refused = isinstance(error, MlflowException) and error.get_http_status_code() in REFUSALS
        if not self._is_remote or refused or isinstance(error, InvalidUrlException):
            message = f"The MLflow tracking store cannot be used ({type(error).__name__})."  # a URI has a password
            raise UnavailableError(message, remedy="Check MONGARS_MLFLOW_TRACKING_URI.") from error

    def start(self, run_id: str | None, experiment: str, name: str, tags: Mapping[str, str], at: int) -> str:
        """Resume a run, or create one when the store does not have it; returns its id."""
        if run_id is not None:
            with ignoring(*GONE):
                self._client.update_run(run_id, status="RUNNING")
                self.log(run_id, tags=tags.items())
                return run_id
        run = self._client.create_run(self._experiment(experiment), start_time=at, tags=dict(tags), run_name=name)
        return str(run.info.run_id)

    def log(self, run_id: str, *, params: Any = (), metrics: Any = (), tags: Any = ()) -> None:
        """Log pairs of name and value; a metric is (name, value, time in milliseconds, step)."""
        from mlflow.entities import Metric, Param, RunTag

        kinds = ((Metric, metrics), (Param, params), (RunTag, tags))
        self._client.log_batch(run_id, *([kind(*each) for each in values] for kind, values in kinds))

    def dataset(self, run_id: str, name: str, version: str, digest: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        used = Dataset(name, digest[:MAX_DATASET_DIGEST], "mongars", f"{name}@{version} sha256:{digest}")
        self._client.log_inputs(run_id, [DatasetInput(used, [InputTag("mlflow.data.context", "training")])])

    def end(self, run_id: str, status: str, at: int, name: str, folder: str, digest: str) -> None:
        """Upload a folder as artifact `name`, where there is one, and end the run; an adapter has a digest."""
        if folder and Path(folder).is_dir():  # it may have been deleted while the server was down
            self._client.log_artifacts(run_id, folder, artifact_path=name)
        self._client.set_terminated(run_id, status=status, end_time=at)
        if digest:
            version, candidate = self._version(digest) or self._add(run_id, name, digest, at), self._candidate()
            newer = candidate is not None and int(candidate.tags.get(MADE_AT, 0)) > at
            if VERDICT not in version.tags and not newer:
                self._client.set_registered_model_alias(MODEL, CANDIDATE, version.version)

    def judged(self, run_id: str, digest: str, tags: Mapping[str, str], metrics: Sequence[Any]) -> None:
        """Log the gate's decision with the run and with the adapter's version, no longer the candidate."""
        if version := self._version(digest):
            for tag, value in tags.items():
                self._client.set_model_version_tag(MODEL, version.version, tag, value)
            if (candidate := self._candidate()) and candidate.version == version.version:
                self._client.delete_registered_model_alias(MODEL, CANDIDATE)
        self.log(run_id, metrics=metrics, tags=tags.items())  # last: the run may have been deleted

    def served(self, run_id: str, digest: str, generation: int) -> None:
        """Make the adapter's version the champion, unless a newer generation did; an imported one has none."""
        version = self._version(digest)
        if version and int(self._client.get_registered_model(MODEL).tags.get(GENERATION, -1)) <= generation:
            self._client.set_registered_model_alias(MODEL, CHAMPION, version.version)
            self._client.set_registered_model_tag(MODEL, GENERATION, str(generation))

    def _experiment(self, name: str) -> str:
        if found := self._client.get_experiment_by_name(name):
            return str(found.experiment_id)
        # A SQLite store's artifacts go next to its file: MLflow's default is the working directory.
        location = (self._file.parent / "mlflow-artifacts").resolve().as_uri() if self._file else None
        return str(self._client.create_experiment(name, artifact_location=location))

    def _version(self, digest: str) -> Any | None:
        found = self._client.search_model_versions(f"name = '{MODEL}' and tags.`{DIGEST}` = '{digest}'")
        return found[0] if found else None

    def _add(self, run_id: str, artifact: str, digest: str, at: int) -> Any:
        with ignoring("RESOURCE_ALREADY_EXISTS"):
            self._client.create_registered_model(MODEL)
        source = f"{self._client.get_run(run_id).info.artifact_uri}/{artifact}"
        tags = {DIGEST: digest, MADE_AT: at}
        return self._client.create_model_version(MODEL, source, run_id, tags=tags, await_creation_for=0)

    def _candidate(self) -> Any | None:
        number = self._client.get_registered_model(MODEL).aliases.get(CANDIDATE)
        return None if number is None else self._client.get_model_version(MODEL, number)


@contextmanager
def ignoring(*codes: str, event: str = "") -> Iterator[None]:
    """Ignore MLflow's errors with one of the codes; a warning names an event that is lost."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in codes:
            raise
        if event:  # without the error's message, which may have values and URIs
            logging.getLogger(__name__).warning("MLflow refused %s (%s): dropped.", event, error.error_code)
