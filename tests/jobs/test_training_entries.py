"""Every entry of training hands GPU, worker count, retries and its start to the trainer."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.curation.catalog.manifest import Provenance
from mongars.curation.catalog.rows import ROW_SCHEMA
from mongars.errors import TrainingStoppedError
from mongars.records import DatasetRef

COMMON = ("--gpu", "--retries", "7", "--set", "workers=4")


@pytest.fixture
def dataset(tmp_path: Path) -> DatasetRef:
    catalog = DatasetCatalog(tmp_path / "models" / "datasets")
    row = {"id": "a", "subject": "s", "split": "train", "source": "", "language": "en"}
    talk = [{"role": "user", "content": "hello"}]
    with catalog.open_draft("conversations") as draft:
        draft.append(pa.Table.from_pylist([row | {"messages": talk}], schema=ROW_SCHEMA))
        return catalog.publish(draft, Provenance(recipe={}, recipe_hash="r"))[0]


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The addresses of the Rays that would have been used."""
    addresses: list[str | None] = []

    def session(_settings: object, address: str | None) -> nullcontext[None]:
        addresses.append(address)
        return nullcontext()

    monkeypatch.setattr("mongars.serving.cluster.ray_session", session)
    return addresses


@pytest.fixture
def adapter_runs(monkeypatch: pytest.MonkeyPatch, dataset: DatasetRef, base_folder: Path) -> list[SimpleNamespace]:
    """The adapter runs that would have been started; a cycle trains on `dataset` and nothing else."""
    runs: list[SimpleNamespace] = []

    class Trainer:
        def __init__(self, config: object, **arguments: object) -> None:
            runs.append(SimpleNamespace(config=config, **arguments))

        def train(self) -> None:
            raise TrainingStoppedError("spied on")

    class Engine:
        def __init__(self, parts: SimpleNamespace, **_: object) -> None:
            self._parts = parts

        def run_cycle(self, _on_stage: object) -> None:
            self._parts.train(dataset)

    monkeypatch.setenv("MONGARS_BASE_MODEL", str(base_folder))
    monkeypatch.setattr("mongars.training.trainer.AdapterTrainer", Trainer)
    monkeypatch.setattr("mongars.evolution.self_training.SelfTrainingEngine", Engine)
    monkeypatch.setattr("mongars.registry.actor.BlockingRegistryClient.connect", lambda _: SimpleNamespace())
    return runs


@pytest.mark.parametrize(
    "program",
    [
        ("mongars", "train"),
        ("mongars", "self-train"),
        ("jobs/train_mntp.py", "--dataset", "conversations"),
        ("jobs/self_train.py",),
    ],
    ids=" ".join,
)
def test_an_adapter_entry_hands_on_resources_and_start(
    entry, sessions, adapter_runs: list[SimpleNamespace], tmp_path: Path, program: tuple[str, ...]
) -> None:
    start = tmp_path / "start"
    start.mkdir()
    ended = entry(*program, *COMMON, "--init-from", str(start), "--resume-from", "other.safetensors")
    assert ended.code == TrainingStoppedError.exit_code, ended.stderr
    (run,) = adapter_runs
    assert (run.use_gpu, run.retries, run.config.workers) == (True, 7, 4)
    assert (run.init_from, run.resume_from) == (start, Path("other.safetensors"))
    assert sessions == ["auto" if "self" in " ".join(program) else None]


@pytest.mark.parametrize("program", [("mongars", "pretrain"), ("jobs/pretrain_base.py",)], ids=" ".join)
def test_a_pretraining_entry_hands_on_resources(
    entry, sessions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: tuple[str, ...]
) -> None:
    runs: list[SimpleNamespace] = []

    class Pretrainer:
        def __init__(self, *_: object, **arguments: object) -> None:
            runs.append(SimpleNamespace(**arguments))

        def train(self) -> None:
            raise TrainingStoppedError("spied on")

    monkeypatch.setattr("mongars.pretraining.trainer.BasePretrainer", Pretrainer)
    text = tmp_path / "text.jsonl"
    text.write_text('{"text": "hello"}\n')
    places = ("--input", str(text), "--output", str(tmp_path / "base"), "--work", str(tmp_path / "work"))
    ended = entry(*program, *COMMON, *places)
    assert ended.code == TrainingStoppedError.exit_code, ended.stderr
    (run,) = runs
    assert (run.workers.use_gpu, run.workers.retries, run.workers.count) == (True, 7, 4)
    assert run.work_dir == tmp_path / "work"  # a run resumes from what it kept there
    assert sessions == [None]


@pytest.mark.parametrize("program", ["jobs/train_mntp.py", "jobs/pretrain_base.py", "jobs/curate.py"])
def test_a_job_uses_the_ray_that_runs_it(
    entry, sessions, adapter_runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    text = tmp_path / "text.jsonl"
    text.write_text('{"text": "hello"}\n')
    arguments = () if program == "jobs/train_mntp.py" else ("--input", str(text))
    if program == "jobs/pretrain_base.py":
        arguments = (*arguments, "--output", str(tmp_path / "base"))
        monkeypatch.setattr("mongars.pretraining.trainer.BasePretrainer.train", _stop)
    monkeypatch.setattr("mongars.workflows.curate.curate_source", _stop)
    assert entry(program, *arguments).code == TrainingStoppedError.exit_code
    assert sessions == ["10.0.0.1:6379"]


def _stop(*_: object, **__: object) -> None:
    raise TrainingStoppedError("spied on")
