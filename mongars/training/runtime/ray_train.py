"""Starts workers on Ray Train, delivers their reports to the driver, stops them and raises their typed errors."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
    get_or_create_autoscaling_coordinator,
)
from ray.train import RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mongars.errors import MongarsError, TrainingError
from mongars.training.runtime.unfinished_runs import storage_of_run

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Workers:
    """The number of workers and the resources of each. If one dies, all are restarted, up to `retries` times.

    With `min_count` the run is elastic: it has as many workers, up to `count`, as fit in the cluster. Every
    `resize_check_s` seconds Ray Train checks whether that number has changed; if so, it kills and restarts all.
    """

    count: int
    use_gpu: bool = False
    cpus: float = 1
    retries: int = 0
    min_count: int | None = None
    resize_check_s: float = 60.0  # Ray Train's default

    @property
    def scaling(self) -> ScalingConfig:
        """The scaling configuration of Ray Train."""
        return ScalingConfig(
            num_workers=self.count if self.min_count is None else (self.min_count, self.count),
            use_gpu=self.use_gpu,
            resources_per_worker={"CPU": self.cpus},
            elastic_resize_monitor_interval_s=self.resize_check_s,
        )

    def warn_if_insufficient(self) -> None:
        """Log a warning if the cluster lacks resources. This is no error, because the cluster may grow."""
        kind = "GPU" if self.use_gpu else "CPU"
        needed = (self.min_count or self.count) * (1 if self.use_gpu else self.cpus)
        available = ray.cluster_resources().get(kind, 0)
        if available < needed:
            logger.warning(
                "The run waits for %g %ss for its workers; this Ray cluster has %g. Fewer workers could start.",
                needed,
                kind,
                available,
            )


def fit(
    work: Callable[[dict[str, Any]], None],
    config: dict[str, Any],
    *,
    name: str,
    folder: Path,
    workers: Workers,
    stop: Path | None = None,
) -> None:
    """Run `work(config)` in every worker, where Ray Train has set up a process group.

    If a worker dies, all are restarted, up to `workers.retries` times, and must resume from their checkpoint. A
    typed error of a worker is raised as it is; other failures, and a live run of this name in `folder`, raise
    TrainingError. `folder` must exist.

    On the main thread the first SIGINT or SIGTERM creates the empty file `stop`, upon which the workers must end
    by themselves. A second signal has its usual effect.
    """
    if stop is None:
        _fit(work, config, name=name, folder=folder, workers=workers)
        return
    stop.unlink(missing_ok=True)  # left by a run that was killed while it stopped
    try:
        if threading.current_thread() is not threading.main_thread():
            _fit(work, config, name=name, folder=folder, workers=workers)
            return
        with _first_signal(stop.touch):
            _run_off_main_thread(lambda: _fit(work, config, name=name, folder=folder, workers=workers))
    finally:
        stop.unlink(missing_ok=True)


@contextmanager
def _first_signal(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` on the first SIGINT or SIGTERM within the block."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, _: object) -> None:
        restore()
        logger.warning("Stopping after the current step (%s).", signal.Signals(number).name)
        act()

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()


def _run_off_main_thread(work: Callable[[], None]) -> None:
    """Run `work` on a thread and wait for it: on the main thread Ray Train aborts the workers on SIGINT."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (re-raised in the caller's thread)
            failures.append(error)

    thread = threading.Thread(target=run, name="ray-train", daemon=True)  # a second signal does not wait for it
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _fit(
    work: Callable[[dict[str, Any]], None], config: dict[str, Any], *, name: str, folder: Path, workers: Workers
) -> None:
    workers.warn_if_insufficient()
    for attempts_left in range(workers.retries, -1, -1):
        try:
            _fit_once(work, config, name=name, folder=folder, workers=workers)
        except TrainingFailedError as error:
            typed = _typed(error)
            if typed is not None:
                raise typed from error
            if not attempts_left:
                raise _untyped(error) from error
            logger.warning("A training worker died; attempts left: %d.", attempts_left)
            if workers.min_count is not None:
                recount_nodes()
        else:
            return


def _fit_once(
    work: Callable[[dict[str, Any]], None], config: dict[str, Any], *, name: str, folder: Path, workers: Workers
) -> None:
    # Ray Train keeps its own state there, which is useless after the run.
    with storage_of_run(folder, name) as storage:
        trainer = TorchTrainer(
            work,
            train_loop_config=config,
            torch_config=TorchConfig(backend="nccl" if workers.use_gpu else "gloo"),
            scaling_config=workers.scaling,
            run_config=RunConfig(name=name, storage_path=str(storage)),
        )
        trainer.fit()


def recount_nodes() -> None:
    """Make Ray update its list of nodes, which it otherwise does every 20 s.

    Otherwise a run that lost a node waits for workers on that node until Ray Train's timeout of 60 s. There is no
    public API for this.
    """
    coordinator = get_or_create_autoscaling_coordinator()
    ray.get(coordinator.get_reserved_resources.remote("mongars", recompute=True))


@contextmanager
def following(on_report: Callable[[Any], None]) -> Iterator[Queue]:
    """Yield a queue whose items a thread passes to `on_report`; its exception is raised at the end of the block.

    ray.train.report is no alternative: it is a barrier that waits for the controller's next poll, every 2 s.
    """
    # On the driver's node, because the cluster may lose those of the workers.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    failures: list[BaseException] = []

    def follow() -> None:
        while (report := queue.get()) is not None:
            if failures:
                continue  # drain the queue until the workers end
            try:
                on_report(report)
            except BaseException as error:  # noqa: BLE001 (re-raised in the caller's thread)
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


def _failures(error: TrainingFailedError) -> list[BaseException]:
    return [getattr(each, "_base_exc", each) for each in getattr(error, "worker_failures", {}).values()]


def _typed(error: TrainingFailedError) -> MongarsError | None:
    """Return the first typed error of a worker, if any."""
    return next((each for each in _failures(error) if isinstance(each, MongarsError)), None)


def _untyped(error: TrainingFailedError) -> TrainingError:
    """Return a TrainingError with the workers' messages, without a traceback."""
    found = "; ".join(sorted({f"{type(each).__name__}: {each}" for each in _failures(error)})) or str(error)
    return TrainingError(
        f"A training worker failed: {found}", remedy="The worker's log is in Ray's session folder."
    )
