"""What a cycle is put together from, without Ray: a tiny base, a version in the catalog."""

from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.curation.catalog.manifest import Provenance
from mongars.curation.catalog.rows import ROW_SCHEMA
from mongars.errors import InputError, ModelNotFoundError
from mongars.lm.base_files import base_model_digest
from mongars.records import DatasetRef
from mongars.registry import AdapterRegistry, BaseSpec, PublishRequest
from mongars.settings import Settings
from mongars.storage.digests import folder_digest
from mongars.training.config import MNTPConfig, stage_2_after
from mongars.workflows import assembly as wiring

SCORED = "hello,hello!,5\nhow,today,1\nare,you there,3\n"


@pytest.fixture
def settings(tmp_path: Path, base_folder: Path) -> Settings:
    """Settings whose scored pairs are not there yet."""
    return Settings(home=tmp_path, models_dir=tmp_path, base_model=str(base_folder), sts_file=tmp_path / "sts.csv")


@pytest.fixture
def dataset(settings: Settings) -> DatasetRef:
    """A version with a conversation to train on and two that are held out."""
    catalog = DatasetCatalog(settings.datasets_dir)
    talk = [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "how are you"}]
    row = {"subject": "s", "source": "test", "language": "en", "messages": talk}
    rows = [row | {"id": name, "split": split} for name, split in (("a", "train"), ("b", "test"), ("c", "test"))]
    with catalog.open_draft("chats") as draft:
        draft.append(pa.Table.from_pylist(rows, schema=ROW_SCHEMA))
        return catalog.publish(draft, Provenance(recipe={}, recipe_hash="r"))[0]


def test_scored_pairs_that_cannot_be_read_are_told_before_anything_is_trained(settings: Settings) -> None:
    with pytest.raises(InputError, match=r"sts\.csv"):
        wiring.build_engine(settings, SimpleNamespace())


@pytest.mark.parametrize("given", [True, False])
def test_a_cycle_measures_the_held_out_rows_and_the_scored_pairs_if_there_are_any(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, dataset: DatasetRef, given: bool
) -> None:
    settings.sts_file.write_text(SCORED)
    settings = settings if given else settings.model_copy(update={"sts_file": None})
    monkeypatch.setattr(wiring, "SelfTrainingEngine", lambda parts, **_: parts)
    evaluation = wiring.build_engine(settings, SimpleNamespace()).evaluate(None, dataset)
    assert set(evaluation.loss.by_conversation) == {"b", "c"}
    assert (evaluation.sts_spearman is not None) == given


def test_a_run_starts_from_a_folder_or_from_an_adapter_of_the_registry(
    settings: Settings, write_adapter, tmp_path: Path
) -> None:
    digest = base_model_digest(Path(settings.base_model))
    folder = write_adapter(tmp_path / "made", 1, base_digest=digest)
    assert wiring.adapter_folder(settings, str(folder)) == folder
    registry = AdapterRegistry(settings.encoders_dir)
    spec = BaseSpec(digest, {"layers.0.self_attn.q_proj.weight": (4, 4)})
    adapter = registry.register(PublishRequest(folder, "chats", spec)).adapter
    registry.reject(adapter.digest, metrics={})
    found = wiring.adapter_folder(settings, adapter.digest[:12])
    assert found != folder
    assert folder_digest(found) == adapter.digest
    with pytest.raises(ModelNotFoundError):
        wiring.adapter_folder(settings, "0123456789ab")


def test_stage_2_starts_from_the_adapter_of_stage_1_and_its_criterion_is_retrieval(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, dataset: DatasetRef
) -> None:
    settings = settings.model_copy(update={"sts_file": None})
    monkeypatch.setattr(wiring, "SelfTrainingEngine", lambda parts, **_: parts)
    trained: list[tuple[str, Path | None]] = []

    def train(_settings, _catalog, _dataset, config, _on_progress, *_args, init_from=None):
        trained.append((config.objective, init_from))
        return SimpleNamespace(folder=Path(config.objective))

    monkeypatch.setattr(wiring, "_train", train)
    first = MNTPConfig(lora_rank=4, workers=1)
    plan = wiring.CyclePlan(training=first, stage_2=stage_2_after(first, ["steps=5"]))
    assert wiring.build_engine(settings, SimpleNamespace(), plan).train(dataset).folder == Path("contrastive")
    assert trained == [("mntp", None), ("contrastive", Path("mntp"))]
    assert plan.judged_by.criterion == "retrieval"
    trained.clear()
    alone = wiring.CyclePlan(training=first)
    assert wiring.build_engine(settings, SimpleNamespace(), alone).train(dataset).folder == Path("mntp")
    assert trained == [("mntp", None)]
    assert alone.judged_by.criterion == "loss"
