"""Stopped and taken up again under DeepSpeed, in real processes that share a real process group."""

from functools import partial
from pathlib import Path

import pytest

from mongars.lm.base_files import base_model_digest
from mongars.records import DatasetRef
from mongars.registry.card import read_card
from mongars.storage.digests import file_digest, folder_digest
from mongars.training.config import MNTPConfig
from mongars.training.runtime.checkpoint import check_checkpoint
from mongars.training.runtime.job import ResumeSource, TrainingJob, adapter_key
from tests.training.processes import losses_of

CONFIG = MNTPConfig(
    lora_rank=3, lora_dropout=0.1, learning_rate=1e-2, max_tokens=32, batch_rows=12, steps=9, checkpoint_steps=2
)
DATASET = DatasetRef("chats", "1", "d" * 64, "ready", 40)
STOPPED_AFTER = 5  # between two checkpoints, in the second epoch
STAGES = (0, 1, 2, 3)


def job_of(output: Path, base: Path, resumed: ResumeSource | None = None, **knobs) -> TrainingJob:
    config = CONFIG.model_copy(update=knobs)
    digest = base_model_digest(base)
    folder = output / adapter_key(config, DATASET, digest, resumed)
    return TrainingJob(config, DATASET, base, "tiny", digest, folder, resumed)


@pytest.fixture(scope="module")
def run(run_workers, token_rows):
    """Return run(world, [(job, step to stop after)])."""
    return partial(run_workers, token_rows)


@pytest.fixture(scope="module")
def two_workers(run, base_folder, tmp_path_factory) -> dict[str, dict[int, TrainingJob]]:
    """For each ZeRO stage, by two workers: a whole run, one that was stopped, one that was stopped and went on."""
    home = tmp_path_factory.mktemp("home")
    jobs = {
        name: {stage: job_of(home / name, base_folder, zero_stage=stage, micro_rows=3) for stage in STAGES}
        for name in ("whole", "stopped", "resumed")
    }
    ends = {"whole": 0, "stopped": STOPPED_AFTER, "resumed": STOPPED_AFTER}
    run(2, [(jobs[name][stage], end) for name, end in ends.items() for stage in STAGES])
    run(2, [(job, 0) for job in jobs["resumed"].values()])
    return jobs


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_was_stopped_ends_with_the_bytes_of_a_whole_one(two_workers, stage):
    whole, resumed = two_workers["whole"][stage], two_workers["resumed"][stage]
    assert folder_digest(resumed.folder) == folder_digest(whole.folder)
    assert losses_of(resumed) == losses_of(whole), "each step once, with the same loss"


def test_workers_that_are_started_again_after_the_last_of_them_had_ended_leave_the_adapter_as_it_is(
    two_workers, run
):
    job = two_workers["whole"][1]
    before, steps = folder_digest(job.folder), losses_of(job)
    run(1, [(job, 0)])
    assert folder_digest(job.folder) == before
    assert losses_of(job) == steps


@pytest.mark.parametrize("stage", STAGES)
def test_a_stopped_run_keeps_the_step_it_is_at_and_no_adapter(two_workers, stage):
    job = two_workers["stopped"][stage]
    check_checkpoint(job.checkpoint, job)
    assert [step for step, _ in losses_of(job)] == list(range(1, STOPPED_AFTER + 1))
    assert not job.folder.exists()


@pytest.mark.parametrize("world", [1, 3])
def test_another_number_of_workers_goes_on_at_any_stage_with_the_same_losses(run, base_folder, tmp_path, world):
    """From one checkpoint of two workers at stage 1. Three do not divide the weights, so that ZeRO pads them."""
    exact = {"lora_dropout": 0.0}  # dropout is drawn for a worker, so it depends on their number
    whole = job_of(tmp_path / "whole", base_folder, **exact)
    source = job_of(tmp_path / "source", base_folder, **exact)
    run(2, [(whole, 0), (source, STOPPED_AFTER)])
    taken = ResumeSource(source.checkpoint, file_digest(source.checkpoint))
    jobs = [job_of(tmp_path / "n", base_folder, taken, workers=world, zero_stage=s, **exact) for s in STAGES]
    check_checkpoint(taken.path, jobs[0])
    run(world, [(job, 0) for job in jobs])
    steps, losses = zip(*losses_of(whole)[STOPPED_AFTER:], strict=True)
    for job in jobs:
        assert [step for step, _ in losses_of(job)] == list(steps)
        assert [loss for _, loss in losses_of(job)] == pytest.approx(list(losses), abs=1e-4)
    cards = [read_card(job.folder) for job in jobs]
    assert {card.resumed_from for card in cards} == {taken.digest}
    assert {card.metrics["loss_first"] for card in cards} == {losses_of(whole)[0][1]}


def test_an_elastic_run_goes_on_by_itself_with_as_many_workers_as_there_are(run, base_folder, tmp_path):
    """Eleven rows, which neither two nor three workers share equally."""
    exact = {"lora_dropout": 0.0, "batch_rows": 11}
    elastic = {"workers": 3, "min_workers": 1, "micro_rows": 2}
    whole = job_of(tmp_path / "whole", base_folder, **exact)
    jobs = [job_of(tmp_path / "elastic", base_folder, zero_stage=s, **elastic, **exact) for s in (1, 3)]
    run(2, [(whole, 0), *((job, 3) for job in jobs)])
    run(1, [(job, 7) for job in jobs])
    run(3, [(job, 0) for job in jobs])
    for job in jobs:
        assert [step for step, _ in losses_of(job)] == list(range(1, CONFIG.steps + 1))
        assert [loss for _, loss in losses_of(job)] == pytest.approx(
            [loss for _, loss in losses_of(whole)], abs=1e-4
        )
        assert read_card(job.folder).world_sizes == [(1, 2), (4, 1), (8, 3)]
    assert read_card(whole.folder).world_sizes is None
