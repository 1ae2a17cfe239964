"""Real runs: Ray Data tokenises and packs, Ray Train trains, MLflow keeps the record; some are killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from mongars.errors import InputError, TrainingError, TrainingStoppedError
from mongars.lm.base import load_base
from mongars.pretraining.config import PretrainConfig
from mongars.pretraining.trainer import BasePretrainer, PretrainedBase
from mongars.training.runtime.ray_train import Workers

pytestmark = pytest.mark.ray

CONFIG = PretrainConfig(
    vocab_size=320,
    hidden_size=32,
    layers=2,
    heads=2,
    intermediate_size=48,
    context=32,
    batch_rows=4,
    steps=40,
    learning_rate=1e-2,
    warmup_steps=4,
    decay_steps=10,
    report_steps=2,
    checkpoint_steps=4,
    heldout_steps=20,
    threads=1,
)


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
def pretrainer(local_ray, texts):
    """Return pretrainer(home, config, ...) -> BasePretrainer."""

    def build(
        home: Path, config: PretrainConfig = CONFIG, *, on_report=lambda _: None, retries=0
    ) -> BasePretrainer:
        return BasePretrainer(
            config,
            [texts / "chats.jsonl", texts / "texts.jsonl"],
            home / "mini",
            heldout=texts / "heldout.jsonl",
            work_dir=home / "work",
            tracking_uri=f"sqlite:///{home / 'mlflow.db'}",
            on_report=on_report,
            workers=Workers(config.workers, retries=retries),
        )

    return build


@pytest.fixture(scope="module")
def made(pretrainer, tmp_path_factory: pytest.TempPathFactory) -> tuple[PretrainedBase, list]:
    reports: list = []
    home = tmp_path_factory.mktemp("home")
    return pretrainer(home, on_report=reports.append).train(), reports


def test_the_base_is_made_and_what_could_not_be_read_is_named(made, texts):
    base, reports = made
    (bad,) = base.bad_lines
    assert (bad.path, bad.line) == (str(texts / "chats.jsonl"), 1)
    assert bad.reason.startswith("not JSON")
    assert load_base(base.folder).digest == base.digest
    assert [report.point.step for report in reports] == list(range(2, 41, 2))
    assert reports[-1].point.heldout_loss < 0.7 * reports[0].point.loss


def test_mlflow_has_the_run_its_text_and_its_curve(made):
    from mlflow import MlflowClient

    base, reports = made
    client = MlflowClient(tracking_uri=f"sqlite:///{base.folder.parent / 'mlflow.db'}")
    run = client.get_run(base.run_id)
    assert run.info.status == "FINISHED"
    assert set(run.data.tags) >= {"chats.jsonl", "texts.jsonl", "heldout.jsonl"}
    curve = client.get_metric_history(base.run_id, "loss")
    assert [(metric.step, metric.value) for metric in curve] == [(r.point.step, r.point.loss) for r in reports]
    assert "base/model.safetensors" in {file.path for file in client.list_artifacts(base.run_id, "base")}


def test_every_document_is_in_the_packed_rows(made):
    base, _ = made
    rows = np.load(base.work / "rows.npy", allow_pickle=False)
    tokenizer = load_base(base.folder).tokenizer
    stream = tokenizer.decode(rows.ravel().tolist())
    # The incomplete last row of a group is left out: a few documents of 260, never most of one kind.
    assert sum(f"Book table {number}.<|end|>" in stream for number in range(200)) > 180
    assert sum(f"A text of {number} lines." in stream for number in range(60)) > 50


def test_a_run_whose_worker_is_killed_ends_with_the_same_bits(made, pretrainer, tmp_path):
    killed: list[int] = []

    def kill_once(report) -> None:
        if report.point.step >= 20 and not killed:
            (worker,) = (
                process.pid
                for process in psutil.Process().children(recursive=True)
                if "RayTrainWorker" in "".join(process.cmdline())
            )
            killed.append(worker)
            os.kill(worker, signal.SIGKILL)

    base = pretrainer(tmp_path, on_report=kill_once, retries=1).train()
    assert killed
    assert base.digest == made[0].digest


def test_a_run_that_failed_goes_on_when_it_is_called_again(made, pretrainer, tmp_path):
    def stop(report) -> None:
        if report.point.step == 20:
            for process in psutil.Process().children(recursive=True):
                if "RayTrainWorker" in "".join(process.cmdline()):
                    process.kill()

    with pytest.raises(TrainingError):
        pretrainer(tmp_path, on_report=stop).train()
    steps: list[int] = []
    base = pretrainer(tmp_path, on_report=lambda report: steps.append(report.point.step)).train()
    assert steps[0] > 4, "it began anew"
    assert base.digest == made[0].digest
    assert base.bad_lines == made[0].bad_lines


def test_a_run_that_is_interrupted_keeps_its_step_and_ends_with_the_same_bits(made, pretrainer, tmp_path):
    from mlflow import MlflowClient

    def interrupt(report) -> None:
        if report.point.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingStoppedError, match="of 40; its checkpoint is kept"):
        pretrainer(tmp_path, on_report=interrupt).train()
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("mongars-pretraining").experiment_id])
    assert run.info.status == "KILLED"
    steps: list[int] = []
    base = pretrainer(tmp_path, on_report=lambda report: steps.append(report.point.step)).train()
    assert steps[0] > 2, "it began anew"
    assert base.digest == made[0].digest
    assert base.run_id == run.info.run_id
    assert not list(base.work.glob("stop"))


def test_two_workers_learn_the_same_but_for_rounding(made, pretrainer, tmp_path):
    reports: list = []
    pretrainer(tmp_path, CONFIG.model_copy(update={"workers": 2}), on_report=reports.append).train()
    assert [report.point.loss for report in reports] == pytest.approx([r.point.loss for r in made[1]], abs=0.02)


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


def test_the_job_names_what_it_could_not_read_and_prints_what_it_made(texts, tmp_path):
    knobs = CONFIG.model_copy(update={"steps": 4, "warmup_steps": 0, "decay_steps": 0}).model_dump()
    result = subprocess.run(
        [
            *(sys.executable, "jobs/pretrain_base.py", "--input", str(texts / "chats.jsonl")),
            *("--output", str(tmp_path / "mini")),
            *(argument for name, value in knobs.items() for argument in ("--set", f"{name}={json.dumps(value)}")),
        ],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"MONGARS_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    assert f"{texts / 'chats.jsonl'}:1: not JSON" in result.stderr
    assert json.loads(result.stdout)["digest"] == load_base(tmp_path / "mini").digest
