"""AdapterTrainer: trains an adapter of either stage on a dataset version, by Ray Data, Ray Train and DeepSpeed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
import ray.train
from ray.util.queue import Queue

from mongars.errors import (
    DatasetRefusedError,
    InputError,
    TrainingError,
    TrainingStoppedError,
    UnavailableError,
)
from mongars.lm.base_files import base_folder, base_model_digest, base_name
from mongars.records import DatasetRef
from mongars.registry.card import read_card
from mongars.settings import refuse_unsafe_ray_data
from mongars.storage.atomic import naming_full_disk, writable_folder
from mongars.storage.digests import file_digest, folder_digest
from mongars.training.config import AdapterRecipe, ContrastiveConfig
from mongars.training.data.pairs import PairTable, tokenise_pairs
from mongars.training.data.tokenize import COLUMNS, TokenTable, load_tokenizer, tokenise_batch
from mongars.training.runtime.checkpoint import check_checkpoint
from mongars.training.runtime.init_adapter import find_init_adapter
from mongars.training.runtime.job import ResumeSource, StepReport, TrainingJob, adapter_key, is_complete
from mongars.training.runtime.ray_train import Workers, fit, following
from mongars.training.runtime.unfinished_runs import remove_torn
from mongars.training.tracking.tracker import RunTracker, mlflow_run_id

TrainProgress = Callable[[int, int, float, float], None]  # step (from 1), steps, loss, tokens per second


@dataclass(frozen=True)
class TrainedAdapter:
    """A finished run. `reused` is true if an equal run had left the adapter before."""

    folder: Path
    metrics: Mapping[str, float]
    run_id: str | None
    reused: bool


class AdapterTrainer:
    """Trains one adapter. Ray must be running in this process; its workers must share a file system.

    The class of the recipe selects the objective. `on_progress` is called for each step, on a thread of the
    trainer. `resume_from` is the checkpoint of another run to continue; `init_from` the folder of an adapter whose
    weights to start from. Workers that died are restarted up to `retries` times. An elastic run restarts from its
    checkpoint with more or fewer workers when the cluster's resources change, which it checks every
    `resize_check_s` seconds.
    """

    def __init__(
        self,
        config: AdapterRecipe,
        parts: Sequence[Path],
        dataset: DatasetRef,
        base_path: str | Path,
        output_dir: Path,
        tracking_uri: str,
        on_progress: TrainProgress | None = None,
        *,
        resume_from: Path | None = None,
        init_from: Path | None = None,
        use_gpu: bool = False,
        cpus_per_worker: float = 1,
        retries: int = 3,
        resize_check_s: float = 60.0,
        cpu_optimizations: bool = True,
    ) -> None:
        self._config = config
        self._parts = parts
        self._dataset = dataset
        self._base_path = base_path
        self._output_dir = output_dir.resolve()
        self._tracking_uri = tracking_uri
        self._on_progress = on_progress or (lambda *_: None)
        self._resume_from = resume_from.resolve() if resume_from else None
        self._init_from = init_from.resolve() if init_from else None
        self._cpu_optimizations = cpu_optimizations
        self._workers = Workers(
            config.workers, use_gpu, cpus_per_worker, retries, config.min_workers, resize_check_s
        )

    def train(self) -> TrainedAdapter:
        """Train, or return the adapter that an equal run left in `output_dir/<key>/`.

        An unfinished run continues from the checkpoint next to that folder. On the main thread, SIGINT and SIGTERM
        make the run write a checkpoint and stop.

        Raises DatasetRefusedError for a version that is not `ready` or is empty, ModelNotFoundError for the base,
        InputError for a `resume_from` that is no checkpoint, AdapterRefusedError for an `init_from` that does not
        fit base and recipe, TrainingError for a run that failed, TrainingStoppedError for one that was stopped,
        UnavailableError without Ray or the tracking store, and ResourceError on a full disk.
        """
        refuse_unsafe_ray_data()
        _check(self._dataset, self._parts)
        job = self._job()
        reused = is_complete(job.folder)
        if not reused:
            if not ray.is_initialized():
                raise UnavailableError("Ray is not running in this process.", remedy="Call ray.init() first.")
            with naming_full_disk(self._output_dir):
                writable_folder(self._output_dir)
                self._train(job)
        job.checkpoint.unlink(missing_ok=True)  # a worker may be killed after it wrote the adapter
        remove_torn(job.folder.parent, job.folder.name)
        return _result(job.folder, reused=reused)

    def _job(self) -> TrainingJob:
        """Return the job of the workers, after a check of the checkpoints."""
        base = base_folder(self._base_path).resolve()
        digest = base_model_digest(base)
        resume_from = _resume_source(self._resume_from) if self._resume_from else None
        init_from = find_init_adapter(self._init_from, self._config, base, digest) if self._init_from else None
        folder = self._output_dir / adapter_key(self._config, self._dataset, digest, resume_from, init_from)
        name = base_name(self._base_path)
        job = TrainingJob(
            self._config,
            self._dataset,
            base,
            name,
            digest,
            folder,
            resume_from,
            init_from,
            self._cpu_optimizations,
        )
        if resume_from:
            check_checkpoint(resume_from.path, job)
        if job.checkpoint.exists():
            check_checkpoint(job.checkpoint, job)
        return job

    def _train(self, job: TrainingJob) -> None:
        with ThreadPoolExecutor(1) as background:
            tokenising = background.submit(tokenise, self._parts, job.base_path, self._config)
            tracker = self._start_tracking(job)  # meanwhile: a new SQLite store takes seconds
        try:
            rows = tokenising.result()
            _check_rows(rows, self._dataset)
            tracker.params({"rows": len(rows), "tokens": rows.token_count})
            tracker.dataset(self._dataset.name, self._dataset.version, self._dataset.digest)
            with following(lambda report: self._on_report(tracker, report)) as queue:
                self._fit(job, rows, queue)
            tracker.end("FINISHED", "adapter", job.folder, digest=folder_digest(job.folder))
        except (TrainingStoppedError, KeyboardInterrupt):
            tracker.end("KILLED")
            raise
        except BaseException:
            tracker.end("FAILED")
            raise

    def _start_tracking(self, job: TrainingJob) -> RunTracker:
        dataset = self._dataset
        tags = {
            "dataset": f"{dataset.name}@{dataset.version}",
            "dataset_digest": dataset.digest,
            "base": job.base_name,
            "base_digest": job.base_digest,
            "recipe_digest": self._config.recipe_digest(),
        }
        if job.init_from:
            tags["init_from"] = job.init_from.digest
        params = self._config.model_dump(mode="json")
        experiment = f"mongars-{self._config.objective}"
        return RunTracker(self._tracking_uri, experiment, params=params, tags=tags, place=job.folder)

    def _on_report(self, tracker: RunTracker, report: StepReport) -> None:
        self._on_progress(report.step, report.steps, report.loss, report.tokens_per_second)
        tracker.metrics(
            report.step,
            {
                "loss": report.loss,
                report.accuracy_name: report.accuracy,
                "tokens_per_second": report.tokens_per_second,
                "padding_share": report.padding_share,
                "learning_rate": self._config.learning_rate,
                "workers": report.workers,
                "gpu_memory_bytes": report.gpu_memory,
            },
        )

    def _fit(self, job: TrainingJob, rows: TokenTable | PairTable, queue: Queue) -> None:
        fit(
            _worker,
            {"job": job, "rows": ray.put(rows), "queue": queue},
            name=job.folder.name,
            folder=self._output_dir,
            workers=self._workers,
            stop=job.stop,
        )
        if not is_complete(job.folder):
            raise TrainingError(
                f"The workers finished, but {job.folder} does not exist.",
                remedy="Put output_dir on storage that all nodes share.",
            )


MNTPTrainer = AdapterTrainer
"""The trainer of either stage, under the name of stage 1's objective."""


LOCAL_ROWS = 4_000
"""Up to so many rows are tokenised here, in some two seconds: Ray Data's workers take eight to start."""


def tokenise(parts: Sequence[Path], base: Path, config: AdapterRecipe) -> TokenTable | PairTable:
    """Return the recipe's training data from the `train` split; a version of many rows is tokenised by Ray Data.

    Raises InputError for a damaged tokenizer.
    """
    load_tokenizer(str(base))  # Ray Data would turn the typed error of a task into text
    if isinstance(config, ContrastiveConfig):
        columns = (*COLUMNS, *_opinions(parts)) if config.pairs == "feedback" else COLUMNS
        return PairTable.of(_map_rows(parts, columns, tokenise_pairs, {"base": str(base), "config": config}))
    rows = _map_rows(parts, COLUMNS, tokenise_batch, {"base": str(base), "max_tokens": config.max_tokens})
    return TokenTable.of((row["id"], row["tokens"]) for row in rows)


def _opinions(parts: Sequence[Path]) -> list[str]:
    """Return the column of opinions, which versions from before feedback lack."""
    return [name for name in ("opinions",) if parts and name in pq.read_schema(parts[0]).names]


def _map_rows(
    parts: Sequence[Path], columns: Sequence[str], function: Callable[..., Any], arguments: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield the rows that `function` returns for the batches of a version's files."""
    if sum(pq.read_metadata(part).num_rows for part in parts) <= LOCAL_ROWS:
        for part in parts:
            yield from function(pq.read_table(part, columns=list(columns)), **arguments).to_pylist()
        return
    dataset = ray.data.read_parquet([str(part.resolve()) for part in parts]).select_columns(list(columns))
    dataset.context.enable_progress_bars = False
    mapped = dataset.map_batches(function, fn_kwargs=arguments, batch_format="pyarrow")
    for block in ray.get(mapped.to_arrow_refs()):
        if block.num_rows:
            yield from block.to_pylist()


def _worker(loop_config: dict[str, Any]) -> None:
    """Run one worker, in a process where Ray Train has set up the process group."""
    from ray.train.torch import get_device

    from mongars.training.worker import run_worker  # slow imports, which the controller does not need

    run_worker(
        loop_config["job"],
        ray.get(loop_config["rows"]),
        rank=ray.train.get_context().get_world_rank(),
        device=get_device(),
        report=loop_config["queue"].put,
    )


def _check(dataset: DatasetRef, parts: Sequence[Path]) -> None:
    label = f"{dataset.name}@{dataset.version}"
    if dataset.state != "ready":
        raise DatasetRefusedError(f"{label} is {dataset.state}.", remedy="Train on a version that is ready.")
    if dataset.rows == 0:
        raise DatasetRefusedError(f"{label} has no rows.", remedy="Curate more text.")
    for part in parts:
        try:
            pq.read_metadata(part)
        except (OSError, pa.ArrowException) as error:
            raise DatasetRefusedError(
                f"{label} is damaged: {part.name} cannot be read ({type(error).__name__}).",
                remedy="Curate again, or bring the file back; `mongars datasets verify` reads all of a version.",
            ) from error


def _check_rows(rows: TokenTable | PairTable, dataset: DatasetRef) -> None:
    if not len(rows):
        label = f"{dataset.name}@{dataset.version}"
        raise DatasetRefusedError(f"{label} has no training text.", remedy="Curate more text.")


def _resume_source(path: Path) -> ResumeSource:
    if not path.is_file():
        raise InputError(f"{path} does not exist.", remedy="Name a checkpoint, KEY.checkpoint.safetensors.")
    return ResumeSource(path, file_digest(path))


def _result(folder: Path, *, reused: bool) -> TrainedAdapter:
    return TrainedAdapter(folder, read_card(folder).metrics, mlflow_run_id(folder), reused)
