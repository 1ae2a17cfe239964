"""The cycle's outcomes, over a real registry in a folder; training and measuring are small stand-ins."""

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
    """The real registry with one replica that follows at once, or never."""

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


class World:
    """What surrounds an engine: conversations, a trainer that numbers its adapters, losses by folder."""

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
        self.told: list[tuple] = []

    def judged(self, run: str, digest: str, verdict: str, reason: str, metrics: dict[str, float]) -> None:
        self.told.append((run, digest, verdict, reason, metrics))

    def served(self, run: str, digest: str, generation: int) -> None:
        self.told.append((run, digest, generation))

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
def world(tmp_path: Path, write_adapter: WriteAdapter) -> World:
    return World(tmp_path, write_adapter)


def test_the_first_cycle_judges_against_the_untrained_base_and_publishes(world: World) -> None:
    report = world.run()
    assert (report.outcome, report.generation, report.replicas) == ("promoted", 1, ("r1",))
    assert (report.champion["held_out_loss"], report.candidate["held_out_loss"]) == (3.0, 2.5)
    assert world.stages == ALL
    served = world.registry.snapshot().served("encoder")
    assert served.digest == report.digest
    assert served.metrics["gate_effect"] == pytest.approx(-0.5)
    assert (served.metrics["ndcg_at_10"], served.metrics["gate_ndcg_at_10_effect"]) == (0.5, 0.0)
    assert report.candidate["sts_spearman"] is None
    assert "sts_spearman" not in served.metrics  # not measured is not a number


def test_a_second_cycle_on_the_same_data_changes_no_generation(world: World) -> None:
    first, second = world.run(), world.run()
    assert (second.outcome, second.generation, second.digest) == ("unchanged", 1, first.digest)
    assert (second.adapter_reused, second.verdict, second.candidate) == (True, None, {})
    assert "evaluate" not in world.stages


def test_a_better_candidate_replaces_the_champion_it_was_judged_against(world: World) -> None:
    world.run()
    world.version, world.next_loss = 2, 2.0
    report = world.run()
    assert (report.outcome, report.champion["held_out_loss"], report.generation) == ("promoted", 2.5, 2)


def test_a_refused_candidate_is_kept_as_rejected_with_its_numbers(world: World) -> None:
    world.run()
    served = world.registry.snapshot().served("encoder")
    world.version, world.next_loss = 2, 2.6
    report = world.run()
    assert report.outcome == "refused"
    rejected = world.registry.snapshot().find(report.digest)
    assert rejected.state == "rejected"
    assert rejected.metrics["gate_effect"] == pytest.approx(0.1)
    assert world.registry.snapshot().served("encoder") == served
    again = world.run()
    assert (again.outcome, again.generation, again.verdict) == ("refused", report.generation, None)


def test_what_became_of_a_candidate_is_told_with_the_figures_and_who_is_served_then(world: World) -> None:
    first = world.run()
    judged, served = world.told
    assert judged[:4] == ("run-v1", first.digest, "promoted", first.verdict.reason)
    figures = judged[4]
    assert (figures["champion_held_out_loss"], figures["held_out_loss"]) == (3.0, 2.5)
    assert (figures["gate_low"], figures["gate_ndcg_at_10_high"]) == (pytest.approx(-0.5), 0.0)
    assert served == ("run-v1", first.digest, 1)
    world.told, world.version, world.next_loss = [], 2, 2.6
    refused = world.run()
    again, judged, served = world.told
    assert judged[:3] == ("run-v2", refused.digest, "rejected")
    assert again == ("run-v2", first.digest, 1)
    assert served == ("run-v2", first.digest, refused.generation)


def test_a_later_cycle_tells_what_a_rollback_brought_back(world: World) -> None:
    first = world.run()
    world.version, world.next_loss = 2, 2.0
    world.run()
    world.registry.rollback()
    world.told = []
    world.run()
    assert world.told == [("run-v2", first.digest, 3)]


def test_a_candidate_that_finds_less_is_refused_however_low_its_loss(world: World) -> None:
    world.found = 0.4
    report = world.run()
    assert report.outcome == "refused"
    assert "surely worse" in report.verdict.reason
    rejected = world.registry.snapshot().find(report.digest)
    assert (rejected.state, rejected.metrics["ndcg_at_10"]) == ("rejected", pytest.approx(0.4))


def test_a_candidate_left_by_a_crash_is_judged(world: World) -> None:
    trained = world.train(DatasetRef("conversations", "v1", "0" * 64, "ready", 1))
    world.registry.register(PublishRequest(trained.folder, "conversations", BASE))
    report = world.run()
    assert (report.outcome, report.generation) == ("promoted", 2)
    assert world.registry.snapshot().served("encoder").metrics["held_out_loss"] == 2.5


def test_what_a_person_rolled_back_is_not_published_again(world: World) -> None:
    world.run()
    world.version, world.next_loss = 2, 2.0
    world.run()
    world.registry.rollback()
    assert world.run().outcome == "unchanged"
    assert world.registry.snapshot().generation == 3


def test_an_adapter_published_meanwhile_stops_the_cycle(world: World, tmp_path: Path) -> None:
    def publish_another() -> None:
        if not (tmp_path / "other").exists():
            world.write_adapter(tmp_path / "other", 99)
            world.registry.publish(PublishRequest(tmp_path / "other", "other", BASE))

    world.on_evaluate = publish_another
    with pytest.raises(StaleGenerationError):
        world.run()


def test_a_replica_that_does_not_follow_is_named_and_a_later_cycle_finishes_the_rollout(world: World) -> None:
    world.registry.follows = False
    with pytest.raises(UnavailableError, match="r1"):
        world.run()
    assert world.registry.snapshot().generation == 1
    world.registry.follows = True
    assert world.run().replicas == ("r1",)


def test_nothing_is_trained_on_a_quarantined_dataset(world: World) -> None:
    world.state = "quarantined"
    with pytest.raises(DatasetRefusedError):
        world.run()
    assert "train" not in world.stages
