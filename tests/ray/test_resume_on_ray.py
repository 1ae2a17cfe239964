"""One run that is killed, stopped and killed again, and still ends with the bytes of an undisturbed one."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from mongars.errors import InputError, TrainingError, TrainingStoppedError
from mongars.registry.card import read_card
from mongars.storage.digests import file_digest, folder_digest
from mongars.training.trainer import TrainedAdapter
from tests.ray.adapter_runs import CONFIG, RECIPE, Progress, RunPlace, training_workers

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
OPTIONS = [part for name, value in RECIPE.items() for part in ("--set", f"{name}={json.dumps(value)}")]
JOB = [sys.executable, "jobs/train_mntp.py", "--dataset", "chats", *OPTIONS]


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
    killed: list[int]


def start_job(place: RunPlace, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    folders = {
        "MONGARS_HOME": str(place.home),
        "MONGARS_MODELS_DIR": str(place.catalog.root.parent),
        "MONGARS_BASE_MODEL": str(place.base),
    }
    return subprocess.Popen(
        JOB, cwd=ROOT, env=environment | folders, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


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
def killed_job(place, job_environment, tmp_path_factory: pytest.TempPathFactory) -> RunPlace:
    """Start a job on a Ray of its own, and kill all its processes in mid-run."""
    here = place(tmp_path_factory.mktemp("resumed"))
    job = start_job(here, job_environment | {"RAY_ADDRESS": "local"})
    wait_for_step(job, 9)
    for process in [psutil.Process(job.pid), *psutil.Process(job.pid).children(recursive=True)]:
        process.kill()
    job.communicate()
    return here


@pytest.fixture(scope="module")
def stopped_job(killed_job, job_environment) -> StoppedJob:
    """Start the same job on the session's Ray, and send it SIGTERM."""
    assert list(killed_job.output.glob(".ray-train-*")), "the killed job had no time to clean up"
    job = start_job(killed_job, job_environment)
    wait_for_step(job, 25)
    job.send_signal(signal.SIGTERM)
    _, messages = job.communicate()
    copied = shutil.copy(killed_job.checkpoint, killed_job.home / "stopped.safetensors")
    return StoppedJob(killed_job, job.returncode, messages, Path(copied))


@pytest.fixture(scope="module")
def resumed(stopped_job) -> ResumedRun:
    """Resume the run in this process, and kill one of its workers."""
    killed: list[int] = []

    def kill_once(step: int) -> None:
        if step >= 45 and not killed:
            worker = training_workers()[-1]
            killed.append(step)
            worker.kill()

    progress = Progress(kill_once)
    adapter = stopped_job.place.trainer(CONFIG, progress).train()
    return ResumedRun(adapter, progress, killed)


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
    assert resumed.progress.steps[0] == int(step) + 1


def test_workers_restart_from_the_last_checkpoint_when_one_of_them_is_killed(resumed):
    assert len(resumed.killed) == 1
    jumps = [after for before, after in pairwise(resumed.progress.steps) if after != before + 1]
    assert len(jumps) <= 1, "none, if the worker died right after a checkpoint"
    assert all(step % CONFIG.checkpoint_steps == 1 for step in jumps), "it resumed from a checkpoint"
    assert all(step > resumed.killed[0] - CONFIG.checkpoint_steps for step in jumps), "and from the last one"
    assert resumed.progress.steps[-1] == CONFIG.steps


def test_a_run_that_resumes_is_one_run_in_mlflow_and_misses_no_step(stopped_job, resumed):
    (run,) = stopped_job.place.mlflow_runs("mongars-mntp")
    assert (run.info.run_id, run.info.status) == (resumed.adapter.run_id, "FINISHED")
    assert set(stopped_job.place.logged_steps(run.info.run_id)) == set(range(1, CONFIG.steps + 1))


def test_one_worker_resumes_from_the_checkpoint_of_two(ray_session, stopped_job, place, tmp_path):
    digest = file_digest(stopped_job.checkpoint)
    config = CONFIG.model_copy(update={"workers": 1, "zero_stage": 3, "micro_rows": None})
    progress = Progress()
    trained = place(tmp_path).trainer(config, progress, resume_from=stopped_job.checkpoint).train()
    assert progress.steps[0] > 25
    assert progress.steps[-1] == CONFIG.steps
    assert read_card(trained.folder).resumed_from == digest
    assert file_digest(stopped_job.checkpoint) == digest, "it belongs to the other run"


def test_a_checkpoint_that_does_not_fit_is_refused_before_a_worker_starts(stopped_job, place, tmp_path):
    elsewhere = place(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        elsewhere.trainer(resume_from=tmp_path / "nowhere.safetensors").train()
    config = CONFIG.model_copy(update={"seed": 5})
    with pytest.raises(TrainingError, match="differs in seed"):
        elsewhere.trainer(config, resume_from=stopped_job.checkpoint).train()
