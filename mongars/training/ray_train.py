"""Workers on Ray Train, and their reports on the way to the driver.

Owns what every run needs of Ray Train: starting, following, typed errors. Must not know what is trained.
"""

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Queue

from mongars.errors import MongarsError, TrainingError


@dataclass(frozen=True, slots=True)
class Workers:
    """How many workers, and what each has. `retries` is how often a run is started again when one dies."""

    count: int
    use_gpu: bool = False
    cpus: float = 1
    retries: int = 0


def fit(
    work: Callable[[dict[str, Any]], None], told: dict[str, Any], *, name: str, place: Path, workers: Workers
) -> None:
    """Run `work(told)` in every worker, which Ray Train has given a process group.

    Raises the typed error of a worker, or a TrainingError that names what happened. `place` must exist.
    """
    # Ray Train keeps its own state there; a run that ended needs none of it.
    with tempfile.TemporaryDirectory(dir=place, prefix=".ray-train-") as storage:
        trainer = TorchTrainer(
            work,
            train_loop_config=told,
            torch_config=TorchConfig(backend="nccl" if workers.use_gpu else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=workers.count, use_gpu=workers.use_gpu, resources_per_worker={"CPU": workers.cpus}
            ),
            run_config=RunConfig(
                name=name, storage_path=storage, failure_config=FailureConfig(max_failures=workers.retries)
            ),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            raise _typed(error) from error


@contextmanager
def following(on_report: Callable[[Any], None]) -> Iterator[Queue]:
    """Yield a queue whose items go to `on_report` as they come, on a thread; what it raises is raised at the end.

    Not by ray.train.report: that is a barrier which waits for the controller's next poll (2 s).
    """
    queue = Queue(actor_options={"num_cpus": 0})
    failures: list[BaseException] = []

    def follow() -> None:
        while (report := queue.get()) is not None:
            if failures:
                continue  # keep the queue empty until the workers end
            try:
                on_report(report)
            except BaseException as error:  # noqa: BLE001 (raised again in the caller's thread)
                failures.append(error)

    follower = threading.Thread(target=follow, name="training-progress", daemon=True)
    follower.start()
    try:
        yield queue
    finally:
        queue.put(None)
        follower.join()
        queue.shutdown()
    if failures:
        raise failures[0]


def _typed(error: TrainingFailedError) -> MongarsError:
    """Return the worker's own typed error, or a TrainingError that names what happened without a traceback."""
    failures = [
        getattr(failure, "_base_exc", failure) for failure in getattr(error, "worker_failures", {}).values()
    ]
    typed = [failure for failure in failures if isinstance(failure, MongarsError)]
    if typed:
        return typed[0]
    found = "; ".join(sorted({f"{type(failure).__name__}: {failure}" for failure in failures})) or str(error)
    return TrainingError(
        f"A training worker failed: {found}", remedy="The worker's log is in Ray's session folder."
    )
