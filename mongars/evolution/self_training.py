"""The self-training cycle: curate, train, evaluate, gate, publish, roll out.

Owns the order of the stages and what each outcome means. Must not know how any stage is done: all are handed in,
the real ones by `mongars.workflows.self_train`. Each stage is idempotent, so a cycle that was interrupted is run
again, and a cycle on unchanged data reuses dataset and adapter and changes no generation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from mongars.curation.recipe import CurationReport
from mongars.errors import DatasetRefusedError, StaleGenerationError
from mongars.evaluation.metrics import Evaluation
from mongars.evolution.collaborators import Collaborators
from mongars.evolution.gate import Verdict
from mongars.records import AdapterKind, AdapterRef, DatasetRef
from mongars.registry import BaseSpec, PublishRequest
from mongars.storage.digests import folder_digest

if TYPE_CHECKING:  # its module imports torch and ray
    from mongars.training.trainer import TrainedAdapter

Stage = Literal["curate", "train", "evaluate", "gate", "publish", "rollout"]
Outcome = Literal["promoted", "refused", "unchanged"]
OnStage = Callable[[Stage], None]
KIND: AdapterKind = "encoder"
ROLLOUT_TIMEOUT_S = 120.0
"""Twelve heartbeats of a replica; loading an adapter takes seconds."""


@dataclass(frozen=True, slots=True)
class CycleReport:
    """What a cycle came to.

    `outcome`: `promoted` (a new generation is served by all of `replicas`), `refused` (the gate's decision,
    now or in an earlier cycle) or `unchanged` (this very adapter was published before). `champion` and
    `candidate` are the figures of what was served until now and of the new adapter, by name
    (`Evaluation.figures`), a None for what could not be measured; when nothing was measured in this cycle
    they are empty, and `verdict` is None.
    """

    outcome: Outcome
    generation: int
    conversations: int
    curation: CurationReport
    digest: str
    adapter_reused: bool
    run_id: str | None
    verdict: Verdict | None = None
    champion: Mapping[str, float | None] = field(default_factory=dict)
    candidate: Mapping[str, float | None] = field(default_factory=dict)
    replicas: tuple[str, ...] = ()
    training: Mapping[str, float] = field(default_factory=dict)

    @property
    def dataset(self) -> DatasetRef:
        """Return the version that was trained on."""
        return self.curation.dataset


class SelfTrainingEngine:
    """Runs cycles for one adapter name over one base model. Blocking: a coroutine puts it on a thread."""

    def __init__(
        self,
        parts: Collaborators,
        *,
        name: str,
        base: BaseSpec,
        rollout_timeout_s: float = ROLLOUT_TIMEOUT_S,
    ) -> None:
        self._parts = parts
        self._name = name
        self._base = base
        self._rollout_timeout_s = rollout_timeout_s

    def run_cycle(self, on_stage: OnStage | None = None) -> CycleReport:
        """Run every stage that the data calls for; `on_stage` hears of each as it begins.

        Raises DatasetRefusedError when nothing may be trained on; StaleGenerationError when another adapter was
        published meanwhile; UnavailableError when a replica does not acknowledge; and what the stages raise.
        """
        begin: OnStage = on_stage or (lambda _stage: None)
        begin("curate")
        curated = self._curate()
        begin("train")
        trained = self._parts.train(curated.dataset)
        report = _Facts(curated, trained, folder_digest(trained.folder))

        manifest = self._parts.registry.snapshot()
        known = manifest.find(report.digest)
        self._tell_served(report)  # an earlier cycle may have been stopped before it did, or a person rolled back
        if known is not None and known.state == "rejected":
            return report.cycle("refused", manifest.generation)
        if known is not None and known.state in ("active", "retired", "revoked"):
            replicas = self._roll_out(manifest.generation, begin)  # an interrupted rollout is finished here
            return report.cycle("unchanged", manifest.generation, replicas=replicas)
        return self._judge(report, manifest.served(KIND), begin)

    def _curate(self) -> CurationReport:
        curated = self._parts.curate()
        dataset = curated.dataset
        if dataset.state != "ready":
            raise DatasetRefusedError(
                f"{dataset.name}@{dataset.version} is {dataset.state}.",
                remedy="Its README.md tells what was found in it.",
            )
        return curated

    def _judge(self, report: "_Facts", champion: AdapterRef | None, begin: OnStage) -> CycleReport:
        begin("evaluate")
        dataset = report.curated.dataset
        folder = self._parts.adapter_folder(champion) if champion else None
        before = self._parts.evaluate(folder, dataset)
        after = self._parts.evaluate(report.trained.folder, dataset)
        begin("gate")
        verdict = self._parts.gate.judge(before, after)
        begin("publish")
        generation = self._settle(report, verdict, champion, before, after)
        replicas = self._roll_out(generation, begin) if verdict.promote else ()
        return report.cycle(
            "promoted" if verdict.promote else "refused",
            generation,
            verdict=verdict,
            champion=before.figures(),
            candidate=after.figures(),
            replicas=replicas,
        )

    def _settle(
        self,
        report: "_Facts",
        verdict: Verdict,
        champion: AdapterRef | None,
        before: Evaluation,
        after: Evaluation,
    ) -> int:
        """Publish or reject the candidate with the numbers that decided it; return the generation."""
        metrics = _numbers(after) | verdict.metrics()
        generation = self._published(report, verdict, champion, metrics)
        told = metrics | {f"champion_{name}": value for name, value in _numbers(before).items()}
        self._parts.outcomes.judged(
            report.trained.folder.name,
            report.digest,
            "promoted" if verdict.promote else "rejected",
            verdict.reason,
            told,
        )
        self._tell_served(report)
        return generation

    def _tell_served(self, report: "_Facts") -> None:
        manifest = self._parts.registry.snapshot()
        served = manifest.served(KIND)
        if served is not None:
            self._parts.outcomes.served(report.trained.folder.name, served.digest, manifest.generation)

    def _published(
        self, report: "_Facts", verdict: Verdict, champion: AdapterRef | None, metrics: Mapping[str, float]
    ) -> int:
        registry, folder = self._parts.registry, report.trained.folder
        if not verdict.promote:
            registry.register(PublishRequest(folder, self._name, self._base))
            return registry.reject(report.digest, metrics=metrics).generation
        served = registry.snapshot().served(KIND)
        if (served and served.digest) != (champion and champion.digest):
            raise StaleGenerationError(
                "Another adapter was published while this one was judged.", remedy="Run the cycle again."
            )
        return registry.publish(PublishRequest(folder, self._name, self._base, metrics=metrics)).generation

    def _roll_out(self, generation: int, begin: OnStage) -> tuple[str, ...]:
        begin("rollout")
        replicas = tuple(one.replica for one in self._parts.registry.status().replicas)
        self._parts.rollout.to_all(generation, replicas, self._rollout_timeout_s)
        return replicas


def _numbers(evaluation: Evaluation) -> dict[str, float]:
    """Return what was measured; what was not is no number."""
    return {name: value for name, value in evaluation.figures().items() if value is not None}


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of a cycle once its candidate is trained."""

    curated: CurationReport
    trained: "TrainedAdapter"
    digest: str

    def cycle(
        self,
        outcome: Outcome,
        generation: int,
        *,
        verdict: Verdict | None = None,
        champion: Mapping[str, float | None] | None = None,
        candidate: Mapping[str, float | None] | None = None,
        replicas: tuple[str, ...] = (),
    ) -> CycleReport:
        return CycleReport(
            outcome=outcome,
            generation=generation,
            conversations=self.curated.rows_read,
            curation=self.curated,
            digest=self.digest,
            adapter_reused=self.trained.reused,
            run_id=self.trained.run_id,
            verdict=verdict,
            champion=champion or {},
            candidate=candidate or {},
            replicas=replicas,
            training=self.trained.metrics,
        )
