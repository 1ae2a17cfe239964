import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mongars.errors import TrainingError
from mongars.records import DatasetRef
from mongars.training.config import MNTPConfig
from mongars.training.runtime.checkpoint import Checkpoint, write_checkpoint
from mongars.training.runtime.job import Progress, TrainingJob
from mongars.training.runtime.unfinished_runs import delete_run, storage_of_run, unfinished_runs

KEY, OTHER = "0123456789abcdef", "fedcba9876543210"


def leave_checkpoint(place: Path, key: str, step: int = 3) -> Path:
    """Leave what a run of step 1000 that was stopped leaves."""
    dataset = DatasetRef("chats", "v2", "d" * 64, "ready", 40)
    job = TrainingJob(MNTPConfig(), dataset, place, "tiny", "b" * 64, place / key)
    kept = Checkpoint(Progress(step), {"a": torch.ones(2)}, {"exp_avg|a": torch.ones(2)})
    write_checkpoint(job.checkpoint, kept, job.fixed, "chats@v2")
    return job.checkpoint


@pytest.fixture
def living(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the storage of the run KEY until its stdin ends."""
    code = (
        "import sys; from pathlib import Path\n"
        "from mongars.training.runtime.unfinished_runs import storage_of_run\n"
        f"with storage_of_run(Path({str(tmp_path)!r}), {KEY!r}):\n    print('held', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], **pipes)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_storage_of_a_run_goes_when_it_ends(tmp_path):
    with storage_of_run(tmp_path, KEY) as storage:
        (storage / "state").write_text("what Ray keeps")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_goes_when_an_equal_one_starts_and_what_others_left_stays(living, tmp_path):
    os.kill(living.pid, signal.SIGKILL)
    living.wait()
    (left,) = tmp_path.iterdir()
    torn = tmp_path / f".{KEY}.checkpoint.safetensors.x1.tmp"
    torn.write_text("half a checkpoint")
    others = [leave_checkpoint(tmp_path, KEY), tmp_path / f".{OTHER}.checkpoint.safetensors.x1.tmp"]
    others[1].touch()
    with storage_of_run(tmp_path, KEY) as storage:
        assert storage != left
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_a_run_that_lives_is_neither_started_twice_nor_deleted(living, tmp_path):
    checkpoint = leave_checkpoint(tmp_path, KEY)
    with pytest.raises(TrainingError, match="is running in another process"), storage_of_run(tmp_path, KEY):
        pass
    (run,) = unfinished_runs(tmp_path, tmp_path / "none")
    assert run.alive
    with pytest.raises(TrainingError, match="is running in another process"):
        delete_run(run)
    assert checkpoint.exists()
    assert len(list(tmp_path.iterdir())) == 2
    with storage_of_run(tmp_path, OTHER):
        pass


def test_an_unfinished_run_says_what_it_is_trained_on_and_how_far_it_is(tmp_path):
    leave_checkpoint(tmp_path, KEY, step=7)
    (tmp_path / f"{OTHER}.stop").touch()
    (tmp_path / OTHER).mkdir()
    (tmp_path / "notes.txt").touch()
    run, stopped = unfinished_runs(tmp_path, tmp_path / "none")
    assert (run.key, run.makes, run.dataset, run.step, run.steps, run.alive) == (
        *(KEY, "adapter", "chats@v2", 7, 1000),
        False,
    )
    assert run.bytes == (tmp_path / f"{KEY}.checkpoint.safetensors").stat().st_size
    assert (stopped.key, stopped.step, stopped.left) == (OTHER, None, (tmp_path / f"{OTHER}.stop",))


def test_a_checkpoint_that_is_damaged_can_be_deleted_too(tmp_path):
    (tmp_path / f"{KEY}.checkpoint.safetensors").write_text("damaged")
    (run,) = unfinished_runs(tmp_path, tmp_path / "none")
    assert run.step is None
    delete_run(run)
    assert list(tmp_path.iterdir()) == []


def test_what_is_deleted_is_all_that_a_run_left_and_no_adapter(tmp_path):
    leave_checkpoint(tmp_path, KEY)
    kept = [leave_checkpoint(tmp_path, OTHER), tmp_path / KEY, tmp_path / f"{KEY}.run.json"]
    (tmp_path / f".{KEY}.checkpoint.safetensors.x1.tmp").touch()
    (tmp_path / f".{KEY}.x2.tmp").mkdir()
    (tmp_path / f".{KEY}.x2.tmp" / "adapter_model.safetensors").touch()
    (tmp_path / f".ray-train-{KEY}-x3").mkdir()
    kept[1].mkdir()
    kept[2].touch()
    delete_run(unfinished_runs(tmp_path, tmp_path / "none")[0])
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_the_text_and_the_checkpoint_of_a_base_are_a_run_too(tmp_path):
    folder = tmp_path / "pretraining" / KEY
    folder.mkdir(parents=True)
    (folder / "rows.npy").write_bytes(b"text")
    (run,) = unfinished_runs(tmp_path / "training", tmp_path / "pretraining")
    assert (run.makes, run.step, run.bytes) == ("base", None, 4)
    delete_run(run)
    assert not folder.exists()
