"""One run that is killed and stopped, and still ends with the bytes of an undisturbed one."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mongars.errors import InputError, TrainingError, TrainingStoppedError
from mongars.storage.digests import file_digest, folder_digest
from mongars.training.runtime.job import ResumeSource, TrainingJob
from mongars.training.trainer import TrainedAdapter
from tests.ray.adapter_runs import CONFIG, RECIPE, Progress, RunPlace, training_workers

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
OPTIONS = [part for name, value in RECIPE.items() for part in ("--set", f"{name}={json.dumps(value)}")]


@dataclass(frozen=True)
class StoppedJob:
    """What a job left that was stopped."""

    place: RunPlace
    exit_code: int
    messages: str
    checkpoint: Path  # a copy: the run that resumes from its own removes it


@dataclass(frozen=True)
class ResumedRun:
    adapter: TrainedAdapter
    progress: Progress


@pytest.fixture(scope="module")
def start_training(job_environment):
    """Return start_training(place) -> the job of CONFIG in `place`, on the session's Ray."""

    def start(place: RunPlace) -> subprocess.Popen[str]:
        folders = {
            "MONGARS_HOME": str(place.home),
            "MONGARS_MODELS_DIR": str(place.catalog.root.parent),
            "MONGARS_BASE_MODEL": str(place.base),
        }
        command = [sys.executable, "jobs/train_mntp.py", "--dataset", "chats", *OPTIONS]
        environment = job_environment | folders
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


def wait_for_step(job: subprocess.Popen[str], step: int) -> None:
    """Read the progress of a job until it has done `step` steps."""
    assert job.stderr is not None
    lines = []
    for line in job.stderr:
        lines.append(line)
        found = re.match(r"Training: (\d+) of", line)
        if found and int(found[1]) >= step:
            return
    pytest.fail(f"The job ended before step {step}: {''.join(lines)}")


@pytest.fixture(scope="module")
def killed_job(place, start_training, tmp_path_factory: pytest.TempPathFactory) -> RunPlace:
    """Start a job, and kill it and its workers in mid-run."""
    here = place(tmp_path_factory.mktemp("resumed"))
    job = start_training(here)
    wait_for_step(job, 5)
    for process in [job, *training_workers()]:
        process.kill()
    job.communicate()
    return here


@pytest.fixture(scope="module")
def stopped_job(killed_job, start_training) -> StoppedJob:
    """Start the same job, and send it SIGTERM."""
    assert list(killed_job.output.glob(".ray-train-*")), "the killed job had no time to clean up"
    job = start_training(killed_job)
    wait_for_step(job, 14)
    job.send_signal(signal.SIGTERM)
    _, messages = job.communicate()
    copied = shutil.copy(killed_job.checkpoint, killed_job.home / "stopped.safetensors")
    return StoppedJob(killed_job, job.returncode, messages, Path(copied))


@pytest.fixture(scope="module")
def resumed(stopped_job) -> ResumedRun:
    """Resume the run in this process, to its end."""
    progress = Progress()
    return ResumedRun(stopped_job.place.trainer(CONFIG, progress).train(), progress)


def test_a_job_that_gets_sigterm_keeps_its_step_and_says_how_to_resume(stopped_job):
    assert stopped_job.exit_code == TrainingStoppedError.exit_code, stopped_job.messages
    assert "Start the same run again" in stopped_job.messages
    assert "Traceback" not in stopped_job.messages


def test_a_run_that_was_killed_and_stopped_ends_with_the_bytes_of_a_whole_one(whole, stopped_job, resumed):
    assert folder_digest(resumed.adapter.folder) == folder_digest(whole.adapter.folder)
    adapter = resumed.adapter.folder
    assert stopped_job.place.files_next_to(adapter) == {f"{adapter.name}.run.json"}


def test_a_run_resumes_at_the_step_at_which_it_was_stopped(stopped_job, resumed):
    (step,) = re.findall(rf"after step (\d+) of {CONFIG.steps}", stopped_job.messages)
    assert resumed.progress.steps == list(range(int(step) + 1, CONFIG.steps + 1))


def test_a_run_that_resumes_is_one_run_in_mlflow_and_misses_no_step(stopped_job, resumed):
    (run,) = stopped_job.place.mlflow_runs("mongars-mntp")
    assert (run.info.run_id, run.info.status) == (resumed.adapter.run_id, "FINISHED")
    assert set(stopped_job.place.logged_steps(run.info.run_id)) == set(range(1, CONFIG.steps + 1))


def test_the_workers_of_another_run_get_the_checkpoint_and_its_digest(
    ray_session, stopped_job, place, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    """That they resume from it, and in any number, is shown by tests/training/test_workers.py."""
    jobs: list[TrainingJob] = []

    def fit(_: Any, context: Mapping[str, Any], **__: Any) -> None:
        jobs.append(context["job"])
        raise TrainingStoppedError("not trained")

    monkeypatch.setattr("mongars.training.trainer.fit", fit)
    config = CONFIG.model_copy(update={"workers": 1, "zero_stage": 3, "micro_rows": None})
    with pytest.raises(TrainingStoppedError, match="not trained"):
        place(tmp_path).trainer(config, resume_from=stopped_job.checkpoint).train()
    assert [job.resume_from for job in jobs] == [
        ResumeSource(stopped_job.checkpoint, file_digest(stopped_job.checkpoint))
    ]


def test_a_checkpoint_that_does_not_fit_is_refused_before_a_worker_starts(stopped_job, place, tmp_path):
    elsewhere = place(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        elsewhere.trainer(resume_from=tmp_path / "nowhere.safetensors").train()
    config = CONFIG.model_copy(update={"seed": 5})
    with pytest.raises(TrainingError, match="differs in seed"):
        elsewhere.trainer(config, resume_from=stopped_job.checkpoint).train()
