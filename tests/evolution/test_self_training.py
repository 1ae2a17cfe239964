"""The outcomes of a cycle on a real registry in a folder, with fakes for training and evaluation."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import pytest

from mongars.curation.recipe import CurationReport
from mongars.errors import DatasetRefusedError, StaleGenerationError, UnavailableError
from mongars.evaluation.metrics import Evaluation, ItemMeans, TurnSearch
from mongars.evolution.collaborators import Collaborators
from mongars.evolution.gate import Gate
from mongars.evolution.rollout import Rollout
from mongars.evolution.self_training import SelfTrainingEngine, Stage
from mongars.records import DatasetRef, RegistryStatus, ReplicaStatus, now
from mongars.registry import AdapterRegistry, BaseSpec, PublishRequest

BASE = BaseSpec("b" * 64, {"layers.0.self_attn.q_proj.weight": (4, 4)})
WriteAdapter = Callable[..., Path]
ALL: list[Stage] = ["curate", "train", "evaluate", "gate", "publish", "rollout"]


class Registry(AdapterRegistry):
    """The real registry with one replica that follows immediately, or never."""

    follows = True

    def status(self) -> RegistryStatus:
        generation = self.snapshot().generation if self.follows else 0
        return RegistryStatus(generation, {}, (ReplicaStatus("r1", generation, {}, now()),), 0)

    def wait_acknowledged(self, generation: int, replicas: Collection[str], timeout_s: float) -> RegistryStatus:
        return self.status()


@dataclass(frozen=True)
class Trained:
    folder: Path
    metrics: dict[str, float]
    run_id: str | None
    reused: bool


class Harness:
    """The collaborators of an engine: a trainer with numbered adapters, and losses by adapter."""

    def __init__(self, root: Path, write_adapter: WriteAdapter) -> None:
        self.root = root
        self.write_adapter = write_adapter
        self.registry = Registry(root / "encoders")
        self.state = "ready"
        self.version = 1
        self.base_loss = 3.0
        self.losses: dict[bytes, float] = {}
        self.next_loss = 2.5
        self.found = 0.5
        self.stages: list[Stage] = []
        self.on_evaluate = lambda: None
        self.recorded: list[tuple] = []

    def judged(self, run: str, digest: str, verdict: str, reason: str, metrics: dict[str, float]) -> None:
        self.recorded.append((run, digest, verdict, reason, metrics))

    def served(self, run: str, digest: str, generation: int) -> None:
        self.recorded.append((run, digest, generation))

    def curate(self) -> CurationReport:
        dataset = DatasetRef("conversations", f"v{self.version}", f"{self.version:064x}", self.state, 1)
        return CurationReport(dataset, 1, 1, {}, {}, (), reused=False)

    def train(self, dataset: DatasetRef) -> Trained:
        folder = self.root / f"run-{dataset.version}"
        reused = folder.exists()
        if not reused:
            self.write_adapter(folder, self.version)
            self.losses[self._weights(folder)] = self.next_loss
        return Trained(folder, {"loss_last": 1.0}, "run", reused)

    def evaluate(self, folder: Path | None, dataset: DatasetRef) -> Evaluation:
        self.on_evaluate()
        loss = self.base_loss if folder is None else self.losses[self._weights(folder)]
        found = ItemMeans({f"c{index}": (self.found, 1) for index in range(20)})
        if folder is None:
            found = ItemMeans(dict.fromkeys(found.by_conversation, (0.5, 1)))
        return Evaluation(
            ItemMeans({f"c{index}": (loss * 10, 10) for index in range(20)}), 0.5, TurnSearch(found, found)
        )

    def run(self):
        parts = Collaborators(
            curate=self.curate,
            train=self.train,
            evaluate=self.evaluate,
            gate=Gate(),
            registry=self.registry,
            adapter_folder=self.registry.store.path,
            rollout=Rollout(self.registry),
            outcomes=self,
        )
        self.stages = []
        engine = SelfTrainingEngine(parts, name="conversations", base=BASE)
        return engine.run_cycle(self.stages.append)

    @staticmethod
    def _weights(folder: Path) -> bytes:
        return (folder / "adapter_model.safetensors").read_bytes()


@pytest.fixture
def harness(tmp_path: Path, write_adapter: WriteAdapter) -> Harness:
    return Harness(tmp_path, write_adapter)


def test_the_first_cycle_compares_with_the_untrained_base_and_publishes(harness: Harness) -> None:
    report = harness.run()
    assert (report.outcome, report.generation, report.replicas) == ("promoted", 1, ("r1",))
    assert (report.champion["held_out_loss"], report.candidate["held_out_loss"]) == (3.0, 2.5)
    assert harness.stages == ALL
    served = harness.registry.snapshot().served("encoder")
    assert served.digest == report.digest
    assert served.metrics["gate_effect"] == pytest.approx(-0.5)
    assert (served.metrics["ndcg_at_10"], served.metrics["gate_ndcg_at_10_effect"]) == (0.5, 0.0)
    assert report.candidate["sts_spearman"] is None
    assert "sts_spearman" not in served.metrics  # not measured, so not recorded


def test_a_second_cycle_on_the_same_data_leaves_the_generation_unchanged(harness: Harness) -> None:
    first, second = harness.run(), harness.run()
    assert (second.outcome, second.generation, second.digest) == ("unchanged", 1, first.digest)
    assert (second.adapter_reused, second.verdict, second.candidate) == (True, None, {})
    assert "evaluate" not in harness.stages


def test_a_better_candidate_replaces_the_champion(harness: Harness) -> None:
    harness.run()
    harness.version, harness.next_loss = 2, 2.0
    report = harness.run()
    assert (report.outcome, report.champion["held_out_loss"], report.generation) == ("promoted", 2.5, 2)


def test_a_refused_candidate_is_rejected_with_its_metrics(harness: Harness) -> None:
    harness.run()
    served = harness.registry.snapshot().served("encoder")
    harness.version, harness.next_loss = 2, 2.6
    report = harness.run()
    assert report.outcome == "refused"
    rejected = harness.registry.snapshot().find(report.digest)
    assert rejected.state == "rejected"
    assert rejected.metrics["gate_effect"] == pytest.approx(0.1)
    assert harness.registry.snapshot().served("encoder") == served
    second = harness.run()
    assert (second.outcome, second.generation, second.verdict) == ("refused", report.generation, None)


def test_the_verdict_with_metrics_and_the_served_adapter_are_recorded(harness: Harness) -> None:
    first = harness.run()
    judged, served = harness.recorded
    assert judged[:4] == ("run-v1", first.digest, "promoted", first.verdict.reason)
    metrics = judged[4]
    assert (metrics["champion_held_out_loss"], metrics["held_out_loss"]) == (3.0, 2.5)
    assert (metrics["gate_low"], metrics["gate_ndcg_at_10_high"]) == (pytest.approx(-0.5), 0.0)
    assert served == ("run-v1", first.digest, 1)
    harness.recorded, harness.version, harness.next_loss = [], 2, 2.6
    refused = harness.run()
    again, judged, served = harness.recorded
    assert judged[:3] == ("run-v2", refused.digest, "rejected")
    assert again == ("run-v2", first.digest, 1)
    assert served == ("run-v2", first.digest, refused.generation)


def test_a_later_cycle_records_the_adapter_of_a_rollback(harness: Harness) -> None:
    first = harness.run()
    harness.version, harness.next_loss = 2, 2.0
    harness.run()
    harness.registry.rollback()
    harness.recorded = []
    harness.run()
    assert harness.recorded == [("run-v2", first.digest, 3)]


def test_worse_retrieval_is_refused_despite_a_lower_loss(harness: Harness) -> None:
    harness.found = 0.4
    report = harness.run()
    assert report.outcome == "refused"
    assert "significantly worse" in report.verdict.reason
    rejected = harness.registry.snapshot().find(report.digest)
    assert (rejected.state, rejected.metrics["ndcg_at_10"]) == ("rejected", pytest.approx(0.4))


def test_a_candidate_registered_before_a_crash_is_evaluated(harness: Harness) -> None:
    trained = harness.train(DatasetRef("conversations", "v1", "0" * 64, "ready", 1))
    harness.registry.register(PublishRequest(trained.folder, "conversations", BASE))
    report = harness.run()
    assert (report.outcome, report.generation) == ("promoted", 2)
    assert harness.registry.snapshot().served("encoder").metrics["held_out_loss"] == 2.5


def test_a_rolled_back_adapter_is_not_published_again(harness: Harness) -> None:
    harness.run()
    harness.version, harness.next_loss = 2, 2.0
    harness.run()
    harness.registry.rollback()
    assert harness.run().outcome == "unchanged"
    assert harness.registry.snapshot().generation == 3


def test_a_concurrent_publication_stops_the_cycle(harness: Harness, tmp_path: Path) -> None:
    def publish_another() -> None:
        if not (tmp_path / "other").exists():
            harness.write_adapter(tmp_path / "other", 99)
            harness.registry.publish(PublishRequest(tmp_path / "other", "other", BASE))

    harness.on_evaluate = publish_another
    with pytest.raises(StaleGenerationError):
        harness.run()


def test_a_late_replica_is_named_and_a_later_cycle_completes_the_rollout(harness: Harness) -> None:
    harness.registry.follows = False
    with pytest.raises(UnavailableError, match="r1"):
        harness.run()
    assert harness.registry.snapshot().generation == 1
    harness.registry.follows = True
    assert harness.run().replicas == ("r1",)


def test_nothing_is_trained_on_a_quarantined_dataset(harness: Harness) -> None:
    harness.state = "quarantined"
    with pytest.raises(DatasetRefusedError):
        harness.run()
    assert "train" not in harness.stages
