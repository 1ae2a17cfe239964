"""The demo as a story: conversations, a server under load, one self-training cycle, a verdict on every answer.

Owns the order of the stages. Each is the real room; nothing here is a shortcut around one. Blocking: starts a Ray
of its own and stops it.
"""

import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.demo.load import Claim, Load, Target
from mongars.demo.place import GENERATED, Filled, demo_settings, fill, make_keys
from mongars.demo.report import DemoReport, check_gold, write_report
from mongars.demo.verify import Encode, Tally, tally
from mongars.evolution.self_training import CycleReport
from mongars.lm.adapters import attach_adapter
from mongars.lm.base import load_base
from mongars.neurons.bidirectional import bidirectional_encoder
from mongars.neurons.neurons import Neurons
from mongars.records import RegistryStatus
from mongars.registry import AdapterManifest, open_store
from mongars.registry.actor import BlockingRegistryClient
from mongars.serving.app import AppArgs, deploy_ray_service
from mongars.serving.cluster import check_resources, ray_session
from mongars.settings import Settings
from mongars.training.config import MNTPConfig
from mongars.workflows.assembly import CyclePlan, build_engine

NAME = "demo"
HOST = "127.0.0.1"
LLM_REPLICAS = 2
ANSWERS_AT_THE_END = 8
"""Of each kind, by the newest generation, before the load ends."""
WAIT_S = 120.0
FREE_MEMORY = 5 * 2**30
"""The server and two training workers beside it took 4.7 GiB at most (docs/results/2026-11-24-demo.md)."""
SERVING_ACTIONS = ("publish", "promote", "rollback")
TRAINING = MNTPConfig(steps=40, batch_rows=16, max_tokens=128, learning_rate=2e-3)
"""Shorter and hotter than LLM2Vec's recipe: a small base, and a run of a minute or so on two cores."""


class Show(Protocol):
    """Where the demo tells how far it is."""

    def stage(self, label: str) -> None:
        """Begin a stage."""
        ...

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        """Show progress within the stage."""
        ...

    def warn(self, message: str) -> None:
        """Tell of something that did not end the demo."""
        ...


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """`source` is a JSONL file, None for generated conversations; at most `limit` of them are taken."""

    source: Path | None = None
    limit: int = 600
    clients: int = 8


def run_demo(settings: Settings, options: DemoOptions, show: Show) -> DemoReport:
    """Run the loop and return its report, which is also in `<home>/demo/report.json`.

    Raises InputError for a source that cannot be read, ResourceError when memory or disk are short, and what
    the rooms raise.
    """
    place = demo_settings(settings, options.source)
    check_resources(place.home, free_memory=FREE_MEMORY)
    clock = _Clock(show)
    clock.begin("conversations")
    filled = fill(place, options.source, options.limit)
    for bad in filled.bad_lines:
        show.warn(f"{bad.path}:{bad.line}: {bad.reason}")
    clock.begin("server")
    with ray_session(place, None):
        target, registry = _serve(place)
        before = registry.status()
        with Load(target, filled.probes, clients=options.clients) as load:
            cycle = _run_cycle(place, registry, load, clock)
            clock.begin("answers by the newest generation")
            load.wait_for("chat", cycle.generation, ANSWERS_AT_THE_END, WAIT_S)
            load.wait_for("embedding", cycle.generation, ANSWERS_AT_THE_END, WAIT_S)
        after, manifest = registry.status(), registry.snapshot()
    clock.begin("check of every answer")
    requests = tally(load.answers, _encoders(place, manifest), _claims(manifest))
    clock.end()
    report = _report(place, options, filled, cycle, Swap(before, after, requests), clock.seconds)
    write_report(report, settings.home / "demo" / "report.json")
    return report


@dataclass(frozen=True, slots=True)
class Swap:
    """The registry before and after the cycle, and what the load saw meanwhile."""

    before: RegistryStatus
    after: RegistryStatus
    requests: Tally


class _Clock:
    """Announces one stage after the other and notes how long each took."""

    def __init__(self, show: Show) -> None:
        self.show = show
        self._running: tuple[str, float] | None = None
        self.seconds: dict[str, float] = {}

    def begin(self, label: str) -> None:
        self.end()
        self._running = (label, time.monotonic())
        self.show.stage(label)

    def end(self) -> None:
        if self._running:
            label, started = self._running
            self.seconds[label] = round(time.monotonic() - started, 1)


def _serve(place: Settings) -> tuple[Target, BlockingRegistryClient]:
    keys = make_keys(place)
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    deploy_ray_service(AppArgs.from_settings(place, llm_replicas=LLM_REPLICAS), host=HOST, port=port)
    return Target(f"http://{HOST}:{port}", keys), BlockingRegistryClient.connect(place.ray_namespace)


def _run_cycle(place: Settings, registry: BlockingRegistryClient, load: Load, clock: _Clock) -> CycleReport:
    """Run one cycle; from the gate on, the clients send without a pause, so that the swap meets them."""

    def on_stage(stage: str) -> None:
        clock.begin(stage)
        if stage == "gate":
            load.flush()

    show = clock.show
    plan = CyclePlan(
        dataset=NAME,
        adapter=NAME,
        training=TRAINING,
        on_curate=show.update,
        on_train=lambda step, steps, loss, rate: show.update(
            step, steps, f"loss {loss:.2f}, {rate:,.0f} tokens/s"
        ),
    )
    return build_engine(place, registry, plan).run_cycle(on_stage)


def _claims(manifest: AdapterManifest) -> frozenset[Claim]:
    """Return the encoder that was current at each generation of the history, and the base at generation 0."""
    current: str | None = None
    claims: set[Claim] = {(0, None)}
    for entry in manifest.history:
        if entry.kind == "encoder" and entry.action in SERVING_ACTIONS:
            current = entry.digest
        claims.add((entry.generation, current))
    return frozenset(claims)


def _encoders(place: Settings, manifest: AdapterManifest) -> dict[str | None, Encode]:
    """Return the offline encoder of the base and of every version that was served, each loaded anew from disk."""
    base, store = (
        load_base(place.base_model, cpu_optimizations=place.cpu_optimizations),
        open_store(place.encoders_dir, place.encoders_url),
    )
    served = {digest for _, digest in _claims(manifest) if digest}

    def encoder(adapter: Path | None) -> Encode:
        module = bidirectional_encoder(base)
        neurons = Neurons(attach_adapter(module, adapter) if adapter else module, base.tokenizer)
        return lambda texts: neurons.encode(texts)[0]

    found: dict[str | None, Encode] = {None: encoder(None)}
    return found | {digest: encoder(store.fetch(manifest.adapter(digest), manifest)) for digest in served}


def _report(
    place: Settings,
    options: DemoOptions,
    filled: Filled,
    cycle: CycleReport,
    swap: Swap,
    seconds: dict[str, float],
) -> DemoReport:
    curation, dataset = cycle.curation, cycle.dataset
    parts = DatasetCatalog(place.datasets_dir).parts(dataset)
    replicas = {one.replica: one.generation for one in swap.after.replicas}
    return DemoReport(
        source=options.source.name if options.source else GENERATED,
        outcome=cycle.outcome,
        new_conversations=filled.new,
        without_consent=filled.without_consent,
        unreadable_lines=len(filled.bad_lines),
        dataset=f"{dataset.name}@{dataset.version}",
        dataset_digest=dataset.digest,
        rows_read=curation.rows_read,
        rows_kept=curation.rows_kept,
        dropped=curation.dropped,
        personal_data=curation.pii,
        gold=check_gold(filled.gold, parts) if filled.gold else None,
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
