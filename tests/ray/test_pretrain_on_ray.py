"""Pretraining through Ray Data, Ray Train and MLflow: a run that is interrupted, and resumed."""

import json
import os
import shutil
import signal
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from mongars.cli.main import app
from mongars.errors import InputError, TrainingStoppedError
from mongars.lm.base import load_base
from mongars.lm.base_files import base_model_digest
from mongars.pretraining.config import PretrainConfig
from mongars.pretraining.job import PretrainJob, PretrainReport
from mongars.pretraining.trainer import BasePretrainer
from mongars.pretraining.worker import run_pretraining

pytestmark = pytest.mark.ray

RECIPE: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 32,
    "layers": 2,
    "heads": 2,
    "intermediate_size": 48,
    "context": 32,
    "batch_rows": 4,
    "steps": 200,
    "learning_rate": 1e-2,
    "warmup_steps": 4,
    "decay_steps": 50,
    "report_steps": 10,
    "checkpoint_steps": 10,
    "heldout_steps": 20,
    "threads": 1,
}
CONFIG = PretrainConfig(**RECIPE)


@dataclass(frozen=True)
class ResumedRun:
    """A run that was interrupted, and resumed by `mongars pretrain`."""

    home: Path
    work: Path
    interrupted: Any  # MLflow's run before it was resumed
    exit_code: int
    printed: dict[str, str]
    messages: str

    @property
    def folder(self) -> Path:
        return self.home / "mini"


def conversation(number: int) -> str:
    said = [
        {"role": "user", "content": f"Book table {number}."},
        {"role": "assistant", "content": "It is booked."},
    ]
    return json.dumps({"id": f"c{number}", "messages": said})


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    (folder / "chats.jsonl").write_text("\n".join(["{broken", *map(conversation, range(200))]))
    lines = [json.dumps({"id": f"t{number}", "text": f"A text of {number} lines. " * 3}) for number in range(60)]
    (folder / "texts.jsonl").write_text("\n".join(lines))
    (folder / "heldout.jsonl").write_text("\n".join(map(conversation, range(300, 330))))
    return folder


@pytest.fixture(scope="module")
def pretrainer(ray_session, texts):
    """Return pretrainer(home, config, ...) -> BasePretrainer."""

    def build(home: Path, config: PretrainConfig = CONFIG, *, on_report=lambda _: None) -> BasePretrainer:
        return BasePretrainer(
            config,
            [texts / "chats.jsonl", texts / "texts.jsonl"],
            home / "mini",
            heldout=texts / "heldout.jsonl",
            work_dir=home / "work",
            tracking_uri=f"sqlite:///{home / 'mlflow.db'}",
            on_report=on_report,
        )

    return build


@pytest.fixture(scope="module")
def resumed(pretrainer, texts, mlflow_database, tmp_path_factory: pytest.TempPathFactory) -> ResumedRun:
    """Interrupt a run, and resume it by `mongars pretrain`."""
    home = tmp_path_factory.mktemp("home")
    shutil.copy(mlflow_database, home / "mlflow.db")

    def interrupt(report: PretrainReport) -> None:
        if report.point.step == CONFIG.report_steps:
            os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingStoppedError, match=f"of {CONFIG.steps}; its checkpoint is kept"):
        pretrainer(home, on_report=interrupt).train()
    assert signal.getsignal(signal.SIGTERM) is handler
    (interrupted,) = mlflow_runs(home)
    (work,) = (path for path in (home / "work").iterdir() if path.is_dir())

    done = pretrain(home, texts)
    assert done.stdout, done.stderr
    return ResumedRun(home, work, interrupted, done.exit_code, json.loads(done.stdout), done.stderr)


def pretrain(home: Path, texts: Path) -> Result:
    """Run `mongars pretrain` in this process, on the session's Ray."""
    arguments = ["--heldout", str(texts / "heldout.jsonl"), "--output", str(home / "mini")]
    for name in ("chats", "texts"):
        arguments += ["--input", str(texts / f"{name}.jsonl")]
    for name, value in RECIPE.items():
        arguments += ["--set", f"{name}={json.dumps(value)}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mongars.serving.cluster.ray_session", lambda _settings, _address: nullcontext())
        command = ["pretrain", *arguments, "--work", str(home / "work"), "--json"]
        return CliRunner(env={"NO_COLOR": "1", "MONGARS_HOME": str(home)}).invoke(app, command)


@pytest.fixture(scope="module")
def whole(resumed, tmp_path_factory: pytest.TempPathFactory) -> tuple[PretrainJob, list[PretrainReport]]:
    """Train without Ray and without a stop, on the rows that Ray Data packed; return the job and its reports."""
    folder, reports = tmp_path_factory.mktemp("whole"), []
    job = PretrainJob(
        config=CONFIG,
        folder=folder,
        tokenizer=resumed.work / "tokenizer",
        rows=resumed.work / "rows.npy",
        heldout=resumed.work / "heldout.npy",
        output=folder / "mini",
        sources=("chats.jsonl", "texts.jsonl"),
    )
    run_pretraining(job, report=reports.append)
    return job, reports


def mlflow_runs(home: Path) -> list:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{home / 'mlflow.db'}")
    return client.search_runs([client.get_experiment_by_name("mongars-pretraining").experiment_id])


def test_the_command_names_the_lines_that_it_could_not_read_and_prints_the_base(resumed, texts):
    assert resumed.exit_code == 1, resumed.messages
    assert f"{texts / 'chats.jsonl'}:1: not JSON" in resumed.messages
    assert load_base(resumed.folder).digest == resumed.printed["digest"]


def test_a_run_that_was_interrupted_ends_with_the_bits_of_a_whole_one(resumed, whole):
    assert resumed.printed["digest"] == base_model_digest(whole[0].output)
    assert not list(resumed.work.glob("stop"))


def test_the_loss_falls(whole):
    _, reports = whole
    assert reports[-1].point.heldout_loss < 0.7 * reports[0].point.loss


def test_mlflow_has_one_run_with_its_text_its_base_and_every_loss(resumed, whole):
    from mlflow import MlflowClient

    assert resumed.interrupted.info.status == "KILLED"
    (run,) = mlflow_runs(resumed.home)
    assert (run.info.run_id, run.info.status) == (resumed.interrupted.info.run_id, "FINISHED")
    assert set(run.data.tags) >= {"chats.jsonl", "texts.jsonl", "heldout.jsonl"}
    client = MlflowClient(tracking_uri=f"sqlite:///{resumed.home / 'mlflow.db'}")
    curve = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, "loss")}
    assert curve == {report.point.step: report.point.loss for report in whole[1]}
    assert "base/model.safetensors" in {file.path for file in client.list_artifacts(run.info.run_id, "base")}


def test_every_document_is_in_the_packed_rows(resumed):
    rows = np.load(resumed.work / "rows.npy", allow_pickle=False)
    tokenizer = load_base(resumed.folder).tokenizer
    stream = tokenizer.decode(rows.ravel().tolist())
    # The incomplete last row of a group is left out: a few documents of 260, never most of one kind.
    assert sum(f"Book table {number}.<|end|>" in stream for number in range(200)) > 180
    assert sum(f"A text of {number} lines." in stream for number in range(60)) > 50


def test_too_little_text_is_refused_before_a_worker_starts(pretrainer, tmp_path):
    with pytest.raises(InputError, match="Too little text"):
        pretrainer(tmp_path, CONFIG.model_copy(update={"context": 20_000, "batch_rows": 1})).train()
    assert not (tmp_path / "mini").exists()


def test_an_output_that_holds_something_is_left_alone(pretrainer, tmp_path):
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "mine").write_text("keep")
    with pytest.raises(InputError, match="not empty"):
        pretrainer(tmp_path).train()
    assert [path.name for path in (tmp_path / "mini").iterdir()] == ["mine"]
