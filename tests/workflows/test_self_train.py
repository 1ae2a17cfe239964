"""The collaborators of a cycle and the start of a run, without Ray: a tiny base, a version in the catalog."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.curation.catalog.manifest import Provenance
from mongars.curation.catalog.rows import ROW_SCHEMA
from mongars.errors import InputError, ModelNotFoundError, SettingsError
from mongars.lm.base_files import base_model_digest
from mongars.records import DatasetRef
from mongars.registry import AdapterRegistry, BaseSpec, PublishRequest
from mongars.settings import Settings
from mongars.storage.digests import folder_digest
from mongars.workflows import self_train
from mongars.workflows.self_train import CyclePlan, build_engine
from mongars.workflows.train import RunOptions, adapter_folder

SCORED = "hello,hello!,5\nhow,today,1\nare,you there,3\n"


@pytest.fixture
def settings(tmp_path: Path, base_folder: Path) -> Settings:
    """Settings whose file of scored pairs is missing."""
    return Settings(home=tmp_path, models_dir=tmp_path, base_model=str(base_folder), sts_file=tmp_path / "sts.csv")


@pytest.fixture
def parts_of(monkeypatch: pytest.MonkeyPatch):
    """Return parts_of(settings, plan) -> the Collaborators of the engine."""
    monkeypatch.setattr("mongars.evolution.self_training.SelfTrainingEngine", lambda parts, **_: parts)
    return lambda settings, plan: build_engine(settings, SimpleNamespace(), plan)


@pytest.fixture
def dataset(settings: Settings) -> DatasetRef:
    """A version with one conversation to train on and two held-out ones."""
    catalog = DatasetCatalog(settings.datasets_dir)
    talk = [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "how are you"}]
    row = {"subject": "s", "source": "test", "language": "en", "messages": talk}
    rows = [row | {"id": name, "split": split} for name, split in (("a", "train"), ("b", "test"), ("c", "test"))]
    with catalog.open_draft("chats") as draft:
        draft.append(pa.Table.from_pylist(rows, schema=ROW_SCHEMA))
        return catalog.publish(draft, Provenance(recipe={}, recipe_hash="r"))[0]


def test_unreadable_scored_pairs_are_reported_before_anything_is_trained(settings: Settings) -> None:
    with pytest.raises(InputError, match=r"sts\.csv"):
        build_engine(settings, SimpleNamespace(), CyclePlan())


@pytest.mark.parametrize("given", [True, False])
def test_a_cycle_measures_the_held_out_rows_and_any_scored_pairs(
    settings: Settings, dataset: DatasetRef, parts_of, given: bool
) -> None:
    settings.sts_file.write_text(SCORED)
    settings = settings if given else settings.model_copy(update={"sts_file": None})
    evaluation = parts_of(settings, CyclePlan()).evaluate(None, dataset)
    assert set(evaluation.loss.by_conversation) == {"b", "c"}
    assert (evaluation.sts_spearman is not None) == given


def test_a_run_starts_from_a_folder_or_an_adapter_of_the_registry(
    settings: Settings, write_adapter, tmp_path: Path
) -> None:
    digest = base_model_digest(Path(settings.base_model))
    folder = write_adapter(tmp_path / "made", 1, base_digest=digest)
    assert adapter_folder(settings, str(folder)) == folder
    registry = AdapterRegistry(settings.encoders_dir)
    spec = BaseSpec(digest, {"layers.0.self_attn.q_proj.weight": (4, 4)})
    adapter = registry.register(PublishRequest(folder, "chats", spec)).adapter
    registry.reject(adapter.digest, metrics={})
    found = adapter_folder(settings, adapter.digest[:12])
    assert found != folder
    assert folder_digest(found) == adapter.digest
    with pytest.raises(ModelNotFoundError):
        adapter_folder(settings, "0123456789ab")


@pytest.mark.parametrize(
    ("stage_2", "criterion", "runs"),
    [
        (False, "loss", [("mntp", Path("checkpoint"), True, "start")]),
        (True, "retrieval", [("mntp", Path("checkpoint"), True, "start"), ("contrastive", None, True, "mntp")]),
    ],
)
def test_stage_2_starts_from_stage_1_and_decides_by_retrieval(
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    dataset: DatasetRef,
    parts_of,
    stage_2: bool,
    criterion: str,
    runs: list[tuple[object, ...]],
) -> None:
    trained: list[tuple[object, ...]] = []

    def train(_settings, _dataset, config, run, *, init_from, progress):
        trained.append((config.objective, run.resume_from, run.gpu, init_from.name))
        return SimpleNamespace(folder=Path(config.objective))

    monkeypatch.setattr(self_train, "train_version", train)
    start = settings.home / "start"
    start.mkdir()
    plan = CyclePlan(
        hyperparameters=["lora_rank=4"],
        stage_2=stage_2,
        run=RunOptions(gpu=True, resume_from=Path("checkpoint"), init_from=str(start)),
    )
    parts = parts_of(settings.model_copy(update={"sts_file": None}), plan)
    assert parts.train(dataset).folder == Path(runs[-1][0])
    assert trained == runs
    assert plan.gate().criterion == criterion


def test_an_unknown_start_is_reported_before_the_server_is_contacted(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, write_adapter, tmp_path: Path
) -> None:
    steps = []
    monkeypatch.setattr(
        "mongars.serving.cluster.ray_session", lambda *_: steps.append("connected") or nullcontext()
    )
    monkeypatch.setattr(
        self_train, "run_cycle", lambda _settings, plan, _progress: steps.append(plan.run.init_from)
    )
    with pytest.raises(ModelNotFoundError):
        self_train.self_train(settings, CyclePlan(run=RunOptions(init_from="0123456789ab")))
    assert steps == []
    digest = base_model_digest(Path(settings.base_model))
    folder = write_adapter(tmp_path / "made", 1, base_digest=digest)
    self_train.self_train(settings, CyclePlan(run=RunOptions(init_from=str(folder))))
    assert steps == ["connected", str(folder)]


def test_stage_2_takes_over_the_hyperparameters_of_stage_1() -> None:
    first, second = CyclePlan(
        hyperparameters=["lora_rank=4"], stage_2=True, stage_2_hyperparameters=["steps=5"]
    ).recipes()
    assert second is not None
    assert (first.lora_rank, second.lora_rank, second.steps) == (4, 4, 5)
    with pytest.raises(SettingsError, match="--stage-2"):
        CyclePlan(stage_2_hyperparameters=["steps=5"]).recipes()
