"""The real rooms behind a self-training cycle, put together from settings.

Owns which file lies where and who is handed to whom; the command line, the jobs and the demo start from here. Must
not know how any stage works. The heavy rooms are imported when they are called for, because a process that only
harvests needs no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.curation.pii.pseudonyms import load_or_create_secret
from mongars.curation.recipe import CurationRecipe, CurationReport, OnProgress
from mongars.curation.sources import ConversationSource, RepositorySource
from mongars.evolution.collaborators import Collaborators
from mongars.evolution.gate import Gate, GateConfig
from mongars.evolution.rollout import Rollout
from mongars.evolution.self_training import SelfTrainingEngine
from mongars.lm.base_files import base_folder, base_model_digest
from mongars.memory.sql.persistence import PersistenceRepository
from mongars.records import DatasetRef
from mongars.registry import AdapterRegistry, BaseSpec, find_adapter, open_store
from mongars.settings import Settings
from mongars.training.config import AdapterRecipe, ContrastiveConfig, MNTPConfig

if TYPE_CHECKING:
    from mongars.evaluation.metrics import Evaluation
    from mongars.evaluation.scored_pairs import ScoredPairs
    from mongars.registry.actor import BlockingRegistryClient
    from mongars.training.trainer import TrainedAdapter, TrainProgress

DEFAULT_NAME = "conversations"


@dataclass(frozen=True, slots=True)
class CyclePlan:
    """What a cycle makes: a version of `dataset`, an adapter called `adapter`, judged as `gate` says.

    `training` is stage 1, which also says on which targets the loss is measured. `stage_2` goes on from its
    adapter where there is one; the last stage's adapter is the candidate, and what it is for decides on it
    (docs/decisions/017).
    """

    dataset: str = DEFAULT_NAME
    adapter: str = DEFAULT_NAME
    training: MNTPConfig = field(default_factory=MNTPConfig)
    stage_2: ContrastiveConfig | None = None
    gate: GateConfig = field(default_factory=GateConfig)
    on_curate: OnProgress | None = None
    on_train: "TrainProgress | None" = None

    @property
    def judged_by(self) -> GateConfig:
        """Return the gate's knobs with the criterion of the last stage."""
        return replace(self.gate, criterion="retrieval" if self.stage_2 else "loss")


def build_engine(
    settings: Settings, client: "BlockingRegistryClient", plan: CyclePlan | None = None
) -> SelfTrainingEngine:
    """Return the engine over the places of `settings`; Ray must be running in this process when a cycle runs.

    Raises ModelNotFoundError when the base model is not there, InputError for scored pairs that cannot be
    read.
    """
    from mongars.evaluation.scored_pairs import read_scored_pairs
    from mongars.training.tracking.outcomes import Outcomes

    plan = plan or CyclePlan()
    pairs = read_scored_pairs(settings.sts_file) if settings.sts_file else None
    catalog = DatasetCatalog(settings.datasets_dir)

    def curate() -> CurationReport:
        source = consented_conversations(settings)
        return curate_source(settings, source, name=plan.dataset, on_progress=plan.on_curate)

    def train(dataset: DatasetRef) -> "TrainedAdapter":
        first = _train(settings, catalog, dataset, plan.training, plan.on_train)
        if plan.stage_2 is None:
            return first
        return _train(settings, catalog, dataset, plan.stage_2, plan.on_train, init_from=first.folder)

    def evaluate(adapter: Path | None, dataset: DatasetRef) -> "Evaluation":
        return _evaluate(settings, catalog, dataset, adapter, plan.training, pairs)

    store = open_store(settings.encoders_dir, settings.encoders_url)
    parts = Collaborators(
        curate=curate,
        train=train,
        evaluate=evaluate,
        gate=Gate(plan.judged_by),
        registry=client,
        adapter_folder=lambda ref: store.fetch(ref, client.snapshot()),
        rollout=Rollout(client),
        outcomes=Outcomes(settings.tracking, settings.training_dir),
    )
    return SelfTrainingEngine(
        parts,
        name=plan.adapter,
        base=BaseSpec.of(base_folder(settings.base_model)),
    )


def consented_conversations(settings: Settings) -> RepositorySource:
    """Return the consented conversations of the repository, for `curate_source`."""
    return RepositorySource(_repository(settings))


def prior_versions(settings: Settings, names: Sequence[str]) -> list[DatasetRef]:
    """Return the ready versions that are named as NAME or NAME@VERSION; without a version the latest.

    Raises DatasetNotFoundError, and DatasetRefusedError for one that is not ready.
    """
    catalog, found = DatasetCatalog(settings.datasets_dir), list[DatasetRef]()
    for each in names:
        name, at, version = each.partition("@")
        found.append(catalog.get(name, version if at else "latest"))
        catalog.require_ready(found[-1])
    return found


def curate_source(
    settings: Settings,
    source: ConversationSource,
    *,
    name: str = DEFAULT_NAME,
    test_share: float = CurationRecipe().test_share,
    on_progress: OnProgress | None = None,
    exclude: Sequence[DatasetRef] = (),
) -> CurationReport:
    """Curate conversations into a version of dataset `name`, by the settings' languages and retention.

    Rows that the versions in `exclude` have are left out.
    """
    from mongars.curation.pipeline import curate

    recipe = CurationRecipe(
        languages=settings.languages,
        retention_days=settings.retention_days,
        person_names=settings.person_names,
        test_share=test_share,
    )
    secret = load_or_create_secret(settings.pseudonym_key_file)
    catalog = DatasetCatalog(settings.datasets_dir)
    return curate(source, recipe, catalog, secret=secret, name=name, on_progress=on_progress, exclude=exclude)


def train_adapter(
    settings: Settings,
    name: str = DEFAULT_NAME,
    version: str = "latest",
    config: AdapterRecipe | None = None,
    *,
    on_progress: "TrainProgress | None" = None,
    resume_from: Path | None = None,
    init_from: str | None = None,
) -> "TrainedAdapter":
    """Train an adapter on a dataset version, by the default recipe of stage 1 without a `config`.

    It starts from the adapter `init_from`, as `adapter_folder` finds it, if there is one. Raises
    DatasetNotFoundError, and what `adapter_folder` and AdapterTrainer raise.
    """
    catalog = DatasetCatalog(settings.datasets_dir)
    dataset = catalog.get(name, version)
    parent = adapter_folder(settings, init_from) if init_from else None
    return _train(settings, catalog, dataset, config or MNTPConfig(), on_progress, resume_from, parent)


def adapter_folder(settings: Settings, named: str) -> Path:
    """Return the folder of an encoder adapter to start from, named by its path or its digest in the registry.

    One that the gate refused is found, too: stage 1 need not be better to be a start. Raises
    ModelNotFoundError for what is neither, AdapterRefusedError for an adapter of another kind or base.
    """
    if Path(named).is_dir():
        return Path(named)
    registry = AdapterRegistry(settings.encoders_dir, settings.encoders_url)
    base = base_model_digest(base_folder(settings.base_model))
    return find_adapter(registry, named, base_digest=base, without=("revoked", "pruned"))[1]


def _train(
    settings: Settings,
    catalog: DatasetCatalog,
    dataset: DatasetRef,
    config: AdapterRecipe,
    on_progress: "TrainProgress | None",
    resume_from: Path | None = None,
    init_from: Path | None = None,
) -> "TrainedAdapter":
    from mongars.training.trainer import AdapterTrainer

    catalog.require_ready(dataset)
    return AdapterTrainer(
        config,
        parts=catalog.parts(dataset),
        dataset=dataset,
        base_path=settings.base_model,
        output_dir=settings.training_dir,
        tracking_uri=settings.tracking,
        on_progress=on_progress,
        resume_from=resume_from,
        init_from=init_from,
        cpu_optimizations=settings.cpu_optimizations,
    ).train()


def _evaluate(
    settings: Settings,
    catalog: DatasetCatalog,
    dataset: DatasetRef,
    adapter: Path | None,
    config: MNTPConfig,
    pairs: "ScoredPairs | None",
) -> "Evaluation":
    """Measure on the version's held-out split, at the targets that the recipe's seed chooses."""
    from mongars.evaluation.evaluation import evaluate_encoder
    from mongars.training.data.tokenize import read_rows

    rows = read_rows(catalog.parts(dataset), "test")
    return evaluate_encoder(
        settings.base_model, adapter, rows, config, pairs, cpu_optimizations=settings.cpu_optimizations
    )


def _repository(settings: Settings) -> PersistenceRepository:
    repository = PersistenceRepository(settings.database)
    repository.migrate()
    return repository
