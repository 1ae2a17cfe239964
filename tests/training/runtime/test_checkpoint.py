import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mongars.errors import InputError, TrainingError
from mongars.records import DatasetRef
from mongars.training.config import ContrastiveConfig, MNTPConfig
from mongars.training.runtime.checkpoint import Checkpoint, check_checkpoint, read_checkpoint, write_checkpoint
from mongars.training.runtime.job import InitAdapter, Progress, ResumeSource, TrainingJob, adapter_key

DATASET = DatasetRef("chats", "1", "d" * 64, "ready", 40)
CHECKPOINT = Checkpoint(
    Progress(3, {"loss_first": 1 / 3, "loss_last": 0.1}, ((1, 2), (3, 1))),
    {"a.lora_A": torch.full((2, 3), 1 / 3), "a.lora_B": torch.zeros(3, 2)},
    {"exp_avg|a.lora_A": torch.full((2, 3), 1e-30), "exp_avg_sq|a.lora_A": torch.rand(2, 3)},
)


def job(folder: Path, **options) -> TrainingJob:
    return TrainingJob(MNTPConfig(**options), DATASET, folder / "base", "tiny", "b" * 64, folder / "key")


@pytest.fixture
def path(tmp_path) -> Path:
    path = job(tmp_path).checkpoint
    write_checkpoint(path, CHECKPOINT, job(tmp_path).fixed)
    return path


def test_a_checkpoint_is_read_back_bit_for_bit(path):
    read = read_checkpoint(path)
    assert read.progress == CHECKPOINT.progress
    for written, found in ((CHECKPOINT.weights, read.weights), (CHECKPOINT.moments, read.moments)):
        assert written.keys() == found.keys()
        assert all(torch.equal(written[name], found[name]) for name in written)


def test_a_run_may_resume_with_other_resumable_fields_only(path, tmp_path):
    check_checkpoint(
        path,
        job(tmp_path, workers=4, threads=2, zero_stage=3, micro_rows=2, learning_rate=1e-5, checkpoint_steps=7),
    )
    with pytest.raises(TrainingError, match="differs in lora_rank, seed"):
        check_checkpoint(path, job(tmp_path, lora_rank=2, seed=3))


def test_a_checkpoint_of_another_initial_adapter_or_objective_is_refused(path, tmp_path):
    own = job(tmp_path)
    with pytest.raises(TrainingError, match="differs in init_from"):
        check_checkpoint(path, replace(own, init_from=InitAdapter(tmp_path, "a" * 64)))
    with pytest.raises(TrainingError, match=r"differs in .*batch_pairs"):
        check_checkpoint(path, replace(own, config=ContrastiveConfig()))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", None])
def test_another_file_is_refused_by_name(tmp_path, content):
    other = tmp_path / "other.safetensors"
    if content is not None:
        other.write_bytes(content)
    with pytest.raises(InputError, match=r"other\.safetensors is no checkpoint"):
        check_checkpoint(other, job(tmp_path))


def test_non_finite_weights_do_not_replace_a_checkpoint(path, tmp_path):
    before = path.read_bytes()
    bad = Checkpoint(Progress(4), {"a.lora_A": torch.tensor([float("nan")])}, {})
    with pytest.raises(TrainingError, match="not finite after step 4"):
        write_checkpoint(path, bad, job(tmp_path).fixed)
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_previous_checkpoint_and_no_other_file(path, tmp_path, monkeypatch):
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(path, CHECKPOINT, job(tmp_path).fixed)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_progress_records_the_first_step_of_each_world_size():
    two = Progress(0).resized(2)
    assert two.resized(2) == two
    assert two.resized(1).world_sizes == ((1, 1),), "the two did no step"
    later = Progress(4, {}, two.world_sizes).resized(1)
    assert later.world_sizes == ((1, 2), (5, 1))
    assert Progress(4, {}, later.world_sizes).resized(3).world_sizes == ((1, 2), (5, 3)), (
        "the steps of the one were lost"
    )


def test_the_key_depends_on_the_resumed_checkpoint():
    config = MNTPConfig()
    source = ResumeSource(Path("somewhere"), "c" * 64)
    keys = {adapter_key(config, DATASET, "b1"), adapter_key(config, DATASET, "b1", source)}
    assert len(keys) == 2
