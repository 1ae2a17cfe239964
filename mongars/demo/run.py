"""The demo: conversations, a server under load, one self-training cycle, and a check of every answer.

It starts and stops its own Ray. Each step is the workflow that the other commands use.
"""

import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mongars.demo.load import Claim, Load, Target
from mongars.demo.place import GENERATED, Filled, demo_settings, fill, make_keys
from mongars.demo.report import DemoReport, check_gold, write_report
from mongars.demo.verify import Tally, tally
from mongars.records import RegistryStatus
from mongars.serving.app import AppArgs, deploy_ray_service
from mongars.serving.cluster import check_resources, ray_session
from mongars.settings import Settings
from mongars.workflows.adapters import served_encoders
from mongars.workflows.datasets import read_rows
from mongars.workflows.embed import offline_encoders
from mongars.workflows.publish import registry_status
from mongars.workflows.self_train import CyclePlan, run_cycle
from mongars.workflows.train import RETRIES, RunOptions
from mongars.workflows.wiring import Progress

if TYPE_CHECKING:
    from mongars.workflows.self_train import CycleReport

NAME = "demo"
HOST = "127.0.0.1"
LLM_REPLICAS = 2
LAST_ANSWERS = 8
"""Of each kind, by the newest generation, before the load ends."""
WAIT_S = 120.0
FREE_MEMORY = 5 * 2**30
"""Enough for the server and two training workers (docs/results/demo.md)."""
HYPERPARAMETERS = ("steps=40", "batch_rows=16", "max_tokens=128", "learning_rate=0.002")
"""A shorter run and a higher learning rate than LLM2Vec's, for a small base on two cores."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """`source` is a JSONL file, None for generated conversations, of which at most `limit` are used."""

    source: Path | None = None
    limit: int = 600
    clients: int = 8
    gpu: bool = False
    retries: int = RETRIES


def run_demo(settings: Settings, options: DemoOptions, progress: Progress) -> DemoReport:
    """Run the loop and return its report, which is also written to `<home>/demo/report.json`.

    Raises InputError for a source that cannot be read, ResourceError when memory or disk are short, and what the
    workflows raise.
    """
    place = demo_settings(settings, options.source)
    check_resources(place.home, free_memory=FREE_MEMORY)
    clock = _Clock(progress)
    clock.stage("conversations")
    filled = fill(place, options.source, options.limit, clock)
    clock.stage("server")
    with ray_session(place, None):
        target = _serve(place)
        before = registry_status(place)
        with Load(target, filled.probes, clients=options.clients) as load:
            cycle = _run_cycle(place, options, load, clock)
            clock.stage("answers by the newest generation")
            load.wait_for("chat", cycle.generation, LAST_ANSWERS, WAIT_S)
            load.wait_for("embedding", cycle.generation, LAST_ANSWERS, WAIT_S)
        after = registry_status(place)
    clock.stage("check of every answer")
    claims: frozenset[Claim] = frozenset(served_encoders(place))
    encoders = offline_encoders(place, {digest for _, digest in claims if digest})
    swap = Swap(before, after, tally(load.answers, encoders, claims))
    clock.end()
    report = _report(place, options, filled, cycle, swap, clock.seconds)
    write_report(report, settings.home / "demo" / "report.json")
    return report


@dataclass(frozen=True, slots=True)
class Swap:
    """The registry before and after the cycle, and the answers to the load in between."""

    before: RegistryStatus
    after: RegistryStatus
    requests: Tally


class _Clock:
    """Progress that also measures each stage."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._running: tuple[str, float] | None = None
        self.seconds: dict[str, float] = {}
        self.update = progress.update
        self.warn = progress.warn

    def stage(self, label: str) -> None:
        self.end()
        self._running = (label, time.monotonic())
        self._progress.stage(label)

    def end(self) -> None:
        if self._running:
            label, started = self._running
            self.seconds[label] = round(time.monotonic() - started, 1)


class _CycleProgress:
    """The cycle's progress; from the gate on, the clients send without a pause, so that the swap meets them."""

    def __init__(self, clock: _Clock, load: Load) -> None:
        self._clock = clock
        self._load = load
        self.update = clock.update
        self.warn = clock.warn

    def stage(self, label: str) -> None:
        self._clock.stage(label)
        if label == "gate":
            self._load.drop_pauses()


def _serve(place: Settings) -> Target:
    keys = make_keys(place)
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    deploy_ray_service(AppArgs.from_settings(place, llm_replicas=LLM_REPLICAS), host=HOST, port=port)
    return Target(f"http://{HOST}:{port}", keys)


def _run_cycle(place: Settings, options: DemoOptions, load: Load, clock: _Clock) -> "CycleReport":
    run = RunOptions(gpu=options.gpu, retries=options.retries)
    plan = CyclePlan(dataset=NAME, adapter=NAME, hyperparameters=HYPERPARAMETERS, run=run)
    return run_cycle(place, plan, _CycleProgress(clock, load))


def _report(
    place: Settings,
    options: DemoOptions,
    filled: Filled,
    cycle: "CycleReport",
    swap: Swap,
    seconds: dict[str, float],
) -> DemoReport:
    curation, dataset = cycle.curation, cycle.dataset
    replicas = {one.replica: one.generation for one in swap.after.replicas}
    return DemoReport(
        source=options.source.name if options.source else GENERATED,
        outcome=cycle.outcome,
        new_conversations=filled.ingested.new,
        without_consent=filled.without_consent,
        unreadable_lines=filled.ingested.problems,
        dataset=f"{dataset.name}@{dataset.version}",
        dataset_digest=dataset.digest,
        rows_read=curation.rows_read,
        rows_kept=curation.rows_kept,
        dropped=curation.dropped,
        personal_data=curation.pii,
        gold=check_gold(filled.gold, read_rows(place, dataset)) if filled.gold else None,
        adapter=cycle.digest,
        loss_first=cycle.training["loss_first"],
        loss_last=cycle.training["loss_last"],
        champion=cycle.champion,
        candidate=cycle.candidate,
        gate=cycle.verdict.reason if cycle.verdict else None,
        generation_before=swap.before.generation,
        generation=swap.after.generation,
        replicas=replicas,
        replicas_restarted=len({one.replica for one in swap.before.replicas} - set(replicas)),
        requests=swap.requests,
        seconds=seconds,
    )
