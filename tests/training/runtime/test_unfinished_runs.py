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


def leave_checkpoint(folder: Path, key: str, step: int = 3) -> Path:
    """Write the checkpoint of a stopped run of 1000 steps."""
    dataset = DatasetRef("chats", "v2", "d" * 64, "ready", 40)
    job = TrainingJob(MNTPConfig(), dataset, folder, "tiny", "b" * 64, folder / key)
    kept = Checkpoint(Progress(step), {"a": torch.ones(2)}, {"exp_avg|a": torch.ones(2)})
    write_checkpoint(job.checkpoint, kept, job.fixed, "chats@v2")
    return job.checkpoint


@pytest.fixture
def alive_run(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with the run KEY alive until its stdin closes."""
    code = (
        "import sys; from pathlib import Path\n"
        "from mongars.training.runtime.unfinished_runs import storage_of_run\n"
        f"with storage_of_run(Path({str(tmp_path)!r}), {KEY!r}):\n    print('alive', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], **pipes)
    assert process.stdout.readline() == "alive\n"
    yield process
    process.kill()
    process.communicate()


def test_the_storage_of_a_run_is_removed_at_its_end(tmp_path):
    with storage_of_run(tmp_path, KEY) as storage:
        (storage / "state").write_text("what Ray keeps")
    assert list(tmp_path.iterdir()) == []


def test_a_starting_run_removes_leftovers_of_an_equal_killed_run_only(alive_run, tmp_path):
    os.kill(alive_run.pid, signal.SIGKILL)
    alive_run.wait()
    (left,) = tmp_path.iterdir()
    torn = tmp_path / f".{KEY}.checkpoint.safetensors.x1.tmp"
    torn.write_text("half a checkpoint")
    others = [leave_checkpoint(tmp_path, KEY), tmp_path / f".{OTHER}.checkpoint.safetensors.x1.tmp"]
    others[1].touch()
    with storage_of_run(tmp_path, KEY) as storage:
        assert storage != left
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_a_live_run_is_neither_started_twice_nor_deleted(alive_run, tmp_path):
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


def test_an_unfinished_run_has_its_dataset_and_progress(tmp_path):
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


def test_a_damaged_checkpoint_can_be_deleted(tmp_path):
    (tmp_path / f"{KEY}.checkpoint.safetensors").write_text("damaged")
    (run,) = unfinished_runs(tmp_path, tmp_path / "none")
    assert run.step is None
    delete_run(run)
    assert list(tmp_path.iterdir()) == []


def test_deleting_removes_all_leftovers_of_a_run_and_no_adapter(tmp_path):
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


def test_the_folder_of_a_base_run_is_listed_and_deleted(tmp_path):
    folder = tmp_path / "pretraining" / KEY
    folder.mkdir(parents=True)
    (folder / "rows.npy").write_bytes(b"text")
    (run,) = unfinished_runs(tmp_path / "training", tmp_path / "pretraining")
    assert (run.makes, run.step, run.bytes) == ("base", None, 4)
    delete_run(run)
    assert not folder.exists()
