"""The self-training cycle: curate, train, evaluate, gate, publish, roll out.

Every stage is idempotent: an interrupted cycle can be run again, and a cycle on unchanged data reuses dataset and
adapter and leaves the generation unchanged.
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
    """The result of a cycle.

    `outcome` is `promoted` (all of `replicas` serve a new generation), `refused` (by the gate, now or in an
    earlier cycle) or `unchanged` (this adapter was published before). `champion` and `candidate` are the metrics
    of the adapter served before and of the new one (`Evaluation.metrics`). They are empty, and `verdict` is None,
    if this cycle evaluated nothing.
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
        """The dataset version of the training."""
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
        """Run the stages that the data requires, and call `on_stage` at the start of each.

        Raises DatasetRefusedError without data to train on, StaleGenerationError if another adapter was published
        meanwhile, UnavailableError if a replica does not acknowledge, and the errors of the stages.
        """
        begin: OnStage = on_stage or (lambda _stage: None)
        begin("curate")
        curated = self._curate()
        begin("train")
        trained = self._parts.train(curated.dataset)
        candidate = _TrainedCandidate(curated, trained, folder_digest(trained.folder))

        manifest = self._parts.registry.snapshot()
        known = manifest.find(candidate.digest)
        self._record_served(candidate)  # after an interrupted cycle or a manual rollback it may be outdated
        if known is not None and known.state == "rejected":
            return candidate.report("refused", manifest.generation)
        if known is not None and known.state in ("active", "retired", "revoked"):
            replicas = self._roll_out(manifest.generation, begin)  # completes an interrupted rollout
            return candidate.report("unchanged", manifest.generation, replicas=replicas)
        return self._judge(candidate, manifest.served(KIND), begin)

    def _curate(self) -> CurationReport:
        curated = self._parts.curate()
        dataset = curated.dataset
        if dataset.state != "ready":
            raise DatasetRefusedError(
                f"{dataset.name}@{dataset.version} is {dataset.state}.",
                remedy="Its README.md lists the findings.",
            )
        return curated

    def _judge(self, candidate: "_TrainedCandidate", champion: AdapterRef | None, begin: OnStage) -> CycleReport:
        begin("evaluate")
        dataset = candidate.curated.dataset
        folder = self._parts.adapter_folder(champion) if champion else None
        before = self._parts.evaluate(folder, dataset)
        after = self._parts.evaluate(candidate.trained.folder, dataset)
        begin("gate")
        verdict = self._parts.gate.judge(before, after)
        begin("publish")
        generation = self._settle(candidate, verdict, champion, before, after)
        replicas = self._roll_out(generation, begin) if verdict.promote else ()
        return candidate.report(
            "promoted" if verdict.promote else "refused",
            generation,
            verdict=verdict,
            champion=before.metrics(),
            candidate=after.metrics(),
            replicas=replicas,
        )

    def _settle(
        self,
        candidate: "_TrainedCandidate",
        verdict: Verdict,
        champion: AdapterRef | None,
        before: Evaluation,
        after: Evaluation,
    ) -> int:
        """Publish or reject the candidate, record the outcome with its metrics, and return the generation."""
        metrics = _measured(after) | verdict.metrics()
        generation = self._publish_or_reject(candidate, verdict, champion, metrics)
        champion_metrics = {f"champion_{name}": value for name, value in _measured(before).items()}
        self._parts.outcomes.judged(
            candidate.trained.folder.name,
            candidate.digest,
            "promoted" if verdict.promote else "rejected",
            verdict.reason,
            metrics | champion_metrics,
        )
        self._record_served(candidate)
        return generation

    def _record_served(self, candidate: "_TrainedCandidate") -> None:
        manifest = self._parts.registry.snapshot()
        served = manifest.served(KIND)
        if served is not None:
            self._parts.outcomes.served(candidate.trained.folder.name, served.digest, manifest.generation)

    def _publish_or_reject(
        self,
        candidate: "_TrainedCandidate",
        verdict: Verdict,
        champion: AdapterRef | None,
        metrics: Mapping[str, float],
    ) -> int:
        registry, folder = self._parts.registry, candidate.trained.folder
        if not verdict.promote:
            registry.register(PublishRequest(folder, self._name, self._base))
            return registry.reject(candidate.digest, metrics=metrics).generation
        served = registry.snapshot().served(KIND)
        if (served and served.digest) != (champion and champion.digest):
            raise StaleGenerationError(
                "Another adapter was published during the evaluation of this one.", remedy="Run the cycle again."
            )
        return registry.publish(PublishRequest(folder, self._name, self._base, metrics=metrics)).generation

    def _roll_out(self, generation: int, begin: OnStage) -> tuple[str, ...]:
        begin("rollout")
        replicas = tuple(each.replica for each in self._parts.registry.status().replicas)
        self._parts.rollout.to_all(generation, replicas, self._rollout_timeout_s)
        return replicas


def _measured(evaluation: Evaluation) -> dict[str, float]:
    """Return the metrics that were measured."""
    return {name: value for name, value in evaluation.metrics().items() if value is not None}


@dataclass(frozen=True, slots=True)
class _TrainedCandidate:
    """The state of a cycle after training."""

    curated: CurationReport
    trained: "TrainedAdapter"
    digest: str

    def report(
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
