"""Workers on Ray Train, and their reports on the way to the driver.

Owns what every run needs of Ray Train: starting, following, stopping, typed errors. Must not know what is trained.
"""

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
    """How many workers, and what each has. `retries` is how often they are started again when one dies.

    With `least` there are as many, from that to `count`, as the cluster has room for. It is looked at again every
    `look_s` seconds: for other workers all are ended, without notice, and started again.
    """

    count: int
    use_gpu: bool = False
    cpus: float = 1
    retries: int = 0
    least: int | None = None
    look_s: float = 60.0  # Ray Train's own

    @property
    def scaling(self) -> ScalingConfig:
        """The same in Ray Train's words."""
        return ScalingConfig(
            num_workers=self.count if self.least is None else (self.least, self.count),
            use_gpu=self.use_gpu,
            resources_per_worker={"CPU": self.cpus},
            elastic_resize_monitor_interval_s=self.look_s,
        )

    def warn_of_too_little_room(self) -> None:
        """Say that the run will wait where the cluster has no room for it: it may grow, so that is no error."""
        kind = "GPU" if self.use_gpu else "CPU"
        needed = (self.least or self.count) * (1 if self.use_gpu else self.cpus)
        there = ray.cluster_resources().get(kind, 0)
        if there < needed:
            logger.warning(
                "The run waits until its workers have %g %ss; this Ray has %g. Fewer workers would start.",
                needed,
                kind,
                there,
            )


def fit(
    work: Callable[[dict[str, Any]], None],
    told: dict[str, Any],
    *,
    name: str,
    place: Path,
    workers: Workers,
    stop: Path | None = None,
) -> None:
    """Run `work(told)` in every worker, which Ray Train has given a process group.

    Workers that died are started again, `workers.retries` times; the work must go on from what it kept. A typed
    error of a worker is final. Raises it, or a TrainingError that names what happened, also that a run of this
    name lives in `place`, which must exist.
    On the main thread the first SIGINT or SIGTERM leaves the empty file `stop`, for which the workers must look
    and end by themselves; a second signal does what it does elsewhere.
    """
    if stop is None:
        _fit(work, told, name=name, place=place, workers=workers)
        return
    stop.unlink(missing_ok=True)  # of a run that was killed while it stopped
    try:
        if threading.current_thread() is not threading.main_thread():
            _fit(work, told, name=name, place=place, workers=workers)
            return
        with _first_signal(stop.touch):
            _run_off_main_thread(lambda: _fit(work, told, name=name, place=place, workers=workers))
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
        logger.warning("Stopping after the step that runs (%s).", signal.Signals(number).name)
        act()

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()


def _run_off_main_thread(work: Callable[[], None]) -> None:
    """Run `work` on a thread and wait: on the main thread Ray Train takes SIGINT, and aborts the workers."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (raised again in the caller's thread)
            failures.append(error)

    thread = threading.Thread(target=run, name="ray-train", daemon=True)  # a second signal must not wait for it
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _fit(
    work: Callable[[dict[str, Any]], None], told: dict[str, Any], *, name: str, place: Path, workers: Workers
) -> None:
    workers.warn_of_too_little_room()
    for left in range(workers.retries, -1, -1):
        try:
            _fit_once(work, told, name=name, place=place, workers=workers)
        except TrainingFailedError as error:
            typed = _typed(error)
            if typed is not None:
                raise typed from error
            if not left:
                raise _untyped(error) from error
            logger.warning("A training worker died; %d more attempts.", left)
            if workers.least is not None:
                count_nodes_anew()
        else:
            return


def _fit_once(
    work: Callable[[dict[str, Any]], None], told: dict[str, Any], *, name: str, place: Path, workers: Workers
) -> None:
    # Ray Train keeps its own state there; a run that ended needs none of it.
    with storage_of_run(place, name) as storage:
        trainer = TorchTrainer(
            work,
            train_loop_config=told,
            torch_config=TorchConfig(backend="nccl" if workers.use_gpu else "gloo"),
            scaling_config=workers.scaling,
            run_config=RunConfig(name=name, storage_path=str(storage)),
        )
        trainer.fit()


def count_nodes_anew() -> None:
    """Have Ray look which nodes there are. It does so every 20 s, and until then plans with one that is gone.

    Without it a run whose node was taken away waits 60 s for workers there, Ray Train's limit (measured). There is
    no public way to ask.
    """
    coordinator = get_or_create_autoscaling_coordinator()
    ray.get(coordinator.get_reserved_resources.remote("mongars", recompute=True))


@contextmanager
def following(on_report: Callable[[Any], None]) -> Iterator[Queue]:
    """Yield a queue whose items go to `on_report` as they come, on a thread; what it raises is raised at the end.

    Not by ray.train.report: that is a barrier which waits for the controller's next poll (2 s).
    """
    # Here, because a node of the workers may be taken away.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
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


def _failures(error: TrainingFailedError) -> list[BaseException]:
    return [getattr(each, "_base_exc", each) for each in getattr(error, "worker_failures", {}).values()]


def _typed(error: TrainingFailedError) -> MongarsError | None:
    """Return a worker's own typed error, if there is one."""
    return next((each for each in _failures(error) if isinstance(each, MongarsError)), None)


def _untyped(error: TrainingFailedError) -> TrainingError:
    """Return a TrainingError that names what happened, without a traceback."""
    found = "; ".join(sorted({f"{type(each).__name__}: {each}" for each in _failures(error)})) or str(error)
    return TrainingError(
        f"A training worker failed: {found}", remedy="The worker's log is in Ray's session folder."
    )
