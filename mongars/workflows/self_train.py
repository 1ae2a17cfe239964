"""Run a self-training cycle: curate, train, judge, publish."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mongars.errors import SettingsError
from mongars.settings import Settings
from mongars.workflows.curate import consented_conversations, curate_source
from mongars.workflows.train import RunOptions, adapter_folder, train_version
from mongars.workflows.wiring import DEFAULT_NAME, SILENT, Progress, base_spec, open_catalog

if TYPE_CHECKING:
    from mongars.curation.recipe import CurationReport
    from mongars.evaluation.metrics import Evaluation
    from mongars.evaluation.scored_pairs import ScoredPairs
    from mongars.evolution.gate import GateConfig
    from mongars.evolution.self_training import CycleReport as CycleReport  # noqa: PLC0414 (for the demo)
    from mongars.evolution.self_training import SelfTrainingEngine
    from mongars.records import DatasetRef
    from mongars.registry.actor import BlockingRegistryClient
    from mongars.training.config import ContrastiveConfig, MNTPConfig
    from mongars.training.trainer import TrainedAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class CyclePlan:
    """The choices of a cycle.

    `hyperparameters` change the recipe of stage 1, as `steps=60`. With `stage_2` the cycle also trains stage 2,
    with `stage_2_hyperparameters`, and retrieval decides instead of the loss (docs/decisions/017). `margin` and
    `tolerance` are the gate's; `run` is how both stages are carried out, and where stage 1 starts.
    """

    dataset: str = DEFAULT_NAME
    adapter: str = DEFAULT_NAME
    hyperparameters: Sequence[str] = ()
    stage_2: bool = False
    stage_2_hyperparameters: Sequence[str] = ()
    margin: float = 0.0
    tolerance: float = 0.0
    run: RunOptions = field(default_factory=RunOptions)

    def recipes(self) -> "tuple[MNTPConfig, ContrastiveConfig | None]":
        """Return the recipes of both stages. Raises SettingsError for hyperparameters that cannot be."""
        from mongars.training.config import MNTPConfig, config_from, stage_2_after

        if self.stage_2_hyperparameters and not self.stage_2:
            raise SettingsError("--set-2 without --stage-2.", remedy="Add --stage-2.")
        first = config_from(MNTPConfig, self.hyperparameters)
        return first, stage_2_after(first, self.stage_2_hyperparameters) if self.stage_2 else None

    def gate(self) -> "GateConfig":
        """Return the configuration of the gate, whose criterion is the last stage's."""
        from mongars.evolution.gate import GateConfig

        return GateConfig(
            margin=self.margin, tolerance=self.tolerance, criterion="retrieval" if self.stage_2 else "loss"
        )


def self_train(
    settings: Settings, plan: CyclePlan, *, ray: str = "auto", progress: Progress = SILENT
) -> "CycleReport":
    """Run a cycle against the server on the Ray at `ray`; the plan is checked before it is connected to.

    Raises SettingsError for the plan, UnavailableError without a server, and what `adapter_folder` and `run_cycle`
    raise.
    """
    from mongars.serving.cluster import ray_session

    plan.recipes()
    plan.gate()
    if plan.run.init_from:
        start = adapter_folder(settings, plan.run.init_from)
        plan = replace(plan, run=replace(plan.run, init_from=str(start)))
    with ray_session(settings, ray):
        return run_cycle(settings, plan, progress)


def run_cycle(settings: Settings, plan: CyclePlan, progress: Progress = SILENT) -> "CycleReport":
    """Run a cycle; this process must be connected to the Ray of a running server.

    Raises ModelNotFoundError without the base, InputError for scored pairs that cannot be read, and what
    SelfTrainingEngine.run_cycle raises.
    """
    from mongars.registry.actor import BlockingRegistryClient

    client = BlockingRegistryClient.connect(settings.ray_namespace)
    return build_engine(settings, client, plan, progress).run_cycle(progress.stage)


def build_engine(
    settings: Settings, client: "BlockingRegistryClient", plan: CyclePlan, progress: Progress = SILENT
) -> "SelfTrainingEngine":
    """Return the engine with its collaborators as the settings and the plan configure them."""
    from mongars.evaluation.scored_pairs import read_scored_pairs
    from mongars.evolution.collaborators import Collaborators
    from mongars.evolution.gate import Gate
    from mongars.evolution.rollout import Rollout
    from mongars.evolution.self_training import SelfTrainingEngine
    from mongars.registry import open_store
    from mongars.training.tracking.tracker import AdapterOutcomes

    first, _ = plan.recipes()
    pairs = read_scored_pairs(settings.sts_file) if settings.sts_file else None
    store = open_store(settings.encoders_dir, settings.encoders_url)

    def curate() -> "CurationReport":
        return curate_source(settings, consented_conversations(settings), name=plan.dataset, progress=progress)

    parts = Collaborators(
        curate=curate,
        train=lambda dataset: _train(settings, dataset, plan, progress),
        evaluate=lambda adapter, dataset: _evaluate(settings, dataset, adapter, first, pairs),
        gate=Gate(plan.gate()),
        registry=client,
        adapter_folder=lambda ref: store.fetch(ref, client.snapshot()),
        rollout=Rollout(client),
        outcomes=AdapterOutcomes(settings.tracking, settings.training_dir),
    )
    return SelfTrainingEngine(parts, name=plan.adapter, base=base_spec(settings.base_model))


def compared(champion: Mapping[str, float | None], candidate: Mapping[str, float | None]) -> list[tuple[str, str]]:
    """Return the rows of a table that compares two adapters' figures."""
    from mongars.evaluation.metrics import compared as rows

    return list(rows(champion, candidate))


def _train(settings: Settings, dataset: "DatasetRef", plan: CyclePlan, progress: Progress) -> "TrainedAdapter":
    """Train stage 1 and, if the plan says so, stage 2 from its adapter."""
    first, second = plan.recipes()
    start = adapter_folder(settings, plan.run.init_from) if plan.run.init_from else None
    trained = train_version(settings, dataset, first, plan.run, init_from=start, progress=progress)
    if second is None:
        return trained
    run = RunOptions(gpu=plan.run.gpu, retries=plan.run.retries)
    return train_version(settings, dataset, second, run, init_from=trained.folder, progress=progress)


def _evaluate(
    settings: Settings,
    dataset: "DatasetRef",
    adapter: Path | None,
    config: "MNTPConfig",
    pairs: "ScoredPairs | None",
) -> "Evaluation":
    """Measure on the held-out split, at the targets that the recipe's seed chooses."""
    from mongars.evaluation.evaluation import evaluate_encoder
    from mongars.training.data.tokenize import read_rows

    rows = read_rows(open_catalog(settings).parts(dataset), "test")
    return evaluate_encoder(
        settings.base_model, adapter, rows, config, pairs, cpu_optimizations=settings.cpu_optimizations
    )
