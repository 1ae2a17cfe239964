"""BasePretrainer: trains a base model on files of text, by Ray Data and Ray Train."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train

from mongars.errors import InputError, TrainingError, TrainingStoppedError, UnavailableError
from mongars.formats.jsonl import BadLine, check_readable
from mongars.lm.base_files import base_model_digest
from mongars.pretraining.config import PretrainConfig
from mongars.pretraining.job import PretrainJob, PretrainReport, check_output
from mongars.pretraining.pipeline import prepare
from mongars.settings import refuse_unsafe_ray_data
from mongars.storage.atomic import writable_folder
from mongars.storage.digests import canonical_json_digest, file_digest
from mongars.training.runtime.ray_train import Workers, fit, following
from mongars.training.tracking.tracker import RunTracker, mlflow_run_id

EXPERIMENT = "mongars-pretraining"


@dataclass(frozen=True, slots=True)
class PretrainedBase:
    """A finished run. `work` is its working folder, which can be removed."""

    folder: Path
    digest: str
    run_id: str | None
    work: Path
    bad_lines: tuple[BadLine, ...]


class BasePretrainer:
    """Trains one base model. Ray must be running in this process; its workers must share a file system.

    `output` must be empty or not exist. The state of a run is in `work_dir`, from which an equal call resumes.
    `on_report` is called on a thread of the pretrainer.
    """

    def __init__(
        self,
        config: PretrainConfig,
        inputs: Sequence[Path],
        output: Path,
        *,
        heldout: Path | None = None,
        work_dir: Path,
        tracking_uri: str,
        on_report: Callable[[PretrainReport], None] = lambda _: None,
        workers: Workers | None = None,
    ) -> None:
        self._config = config
        self._inputs = [path.resolve() for path in inputs]
        self._output = output.resolve()
        self._heldout = heldout.resolve() if heldout else None
        self._work_dir = work_dir.resolve()
        self._tracking_uri = tracking_uri
        self._on_report = on_report
        self._workers = workers or Workers(config.workers)

    def train(self) -> PretrainedBase:
        """Train the base. On the main thread, SIGINT and SIGTERM make the run write a checkpoint and stop.

        Raises InputError, TrainingError, TrainingStoppedError for a run that was stopped, and UnavailableError
        without Ray or the tracking store.
        """
        refuse_unsafe_ray_data()
        check_paths(self._inputs, self._heldout, self._output)
        if not ray.is_initialized():
            raise UnavailableError("Ray is not running in this process.", remedy="Call ray.init() first.")
        texts = [(path.name, file_digest(path)) for path in (*self._inputs, *filter(None, [self._heldout]))]
        key = canonical_json_digest([self._config.run_digest(), [digest for _, digest in texts]])[:16]
        folder = self._work_dir / key
        writable_folder(folder, private=True)  # contains the text, as tokens
        prepared = prepare(self._inputs, self._heldout, self._config, folder)
        job = PretrainJob(
            config=self._config,
            folder=folder,
            tokenizer=prepared.tokenizer,
            rows=prepared.rows,
            heldout=prepared.heldout,
            output=self._output,
            sources=tuple(path.name for path in self._inputs),
        )
        params = self._config.model_dump(mode="json")
        tracker = RunTracker(self._tracking_uri, EXPERIMENT, params=params, tags=dict(texts), place=folder)
        try:
            with following(lambda report: self._record(tracker, report)) as queue:
                fit(
                    _worker,
                    {"job": job, "queue": queue},
                    name=key,
                    folder=folder,
                    workers=self._workers,
                    stop=job.stop,
                )
            _check_written(self._output)
            tracker.end("FINISHED", "base", self._output)
        except (TrainingStoppedError, KeyboardInterrupt):
            tracker.end("KILLED")
            raise
        except BaseException:
            tracker.end("FAILED")
            raise
        digest = base_model_digest(self._output)
        return PretrainedBase(self._output, digest, mlflow_run_id(folder), folder, prepared.bad_lines)

    def _record(self, tracker: RunTracker, report: PretrainReport) -> None:
        point = report.point
        tracker.metrics(
            point.step,
            {
                "loss": point.loss,
                "heldout_loss": point.heldout_loss,
                "learning_rate": point.learning_rate,
                "tokens_per_second": report.tokens_per_second,
            },
        )
        self._on_report(report)


def check_paths(inputs: Sequence[Path], heldout: Path | None, output: Path) -> None:
    """Raise InputError for an unreadable input or an output that is not empty."""
    if not inputs:
        raise InputError("No text.", remedy="Name at least one .jsonl or .jsonl.gz file.", param="input")
    for path in (*inputs, *filter(None, [heldout])):
        check_readable(path)
    check_output(output)
    writable_folder(output.parent)


def _check_written(output: Path) -> None:
    if not (output / "config.json").is_file():
        raise TrainingError(
            f"The workers finished, but {output} does not exist.",
            remedy="Put output and work folder on storage that all nodes share.",
        )


def _worker(loop_config: dict[str, Any]) -> None:
    """Run one worker, in a process where Ray Train has set up the process group."""
    from ray.train.torch import get_device

    from mongars.pretraining.worker import run_pretraining  # slow to import, and not needed by the controller

    rank = ray.train.get_context().get_world_rank()
    run_pretraining(loop_config["job"], rank=rank, device=get_device(), report=loop_config["queue"].put)
