"""Workers under DeepSpeed: other world sizes, stops and resumption, at every ZeRO stage and for both objectives.

A group of processes takes seconds to start, so all runs share four: of two workers, one, three, and two again.
"""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel

from mongars.lm.base_files import base_model_digest
from mongars.neurons.bidirectional import check_bidirectional
from mongars.records import DatasetRef
from mongars.registry.card import read_card
from mongars.storage.digests import file_digest, folder_digest
from mongars.training.config import AdapterRecipe, ContrastiveConfig, MNTPConfig
from mongars.training.runtime.checkpoint import check_checkpoint, read_checkpoint
from mongars.training.runtime.init_adapter import find_init_adapter
from mongars.training.runtime.job import InitAdapter, ResumeSource, TrainingJob, adapter_key
from tests.training.processes import Run, losses_of, run_group

STAGE_1 = MNTPConfig(
    lora_rank=3, lora_dropout=0.1, learning_rate=1e-2, max_tokens=32, batch_rows=12, steps=9, checkpoint_steps=2
)
STAGE_2 = ContrastiveConfig(
    lora_rank=4, learning_rate=1e-3, max_tokens=32, batch_pairs=8, steps=7, checkpoint_steps=2, min_tokens=1
)
NO_DROPOUT = {"lora_dropout": 0.0}  # dropout depends on the rank, so losses are comparable only without it
DATASET = DatasetRef("chats", "1", "d" * 64, "ready", 40)
STOPPED_AFTER = 5  # of stage 1: between two checkpoints, in the second epoch
ZERO_STAGES = (0, 1, 2, 3)


@dataclass
class Runs:
    """The jobs of all tests, by what they show. They live in `home`, which is the same for every call."""

    home: Path
    base: Path
    init_from: InitAdapter
    whole: dict[int, TrainingJob] = field(default_factory=dict)
    resumed: dict[int, TrainingJob] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for stage in ZERO_STAGES:
            options = {"zero_stage": stage, "micro_rows": 3}
            self.whole[stage] = self._job("whole", STAGE_1, **options)
            self.resumed[stage] = self._job("resumed", STAGE_1, **options)
        self.exact = self._job("whole", STAGE_1, **NO_DROPOUT)
        self.source = self._job("source", STAGE_1, **NO_DROPOUT)
        # Eleven rows, which neither two nor three workers share equally.
        self.eleven = self._job("whole", STAGE_1, batch_rows=11, **NO_DROPOUT)
        options = {"workers": 3, "min_workers": 1, "micro_rows": 2, "batch_rows": 11, **NO_DROPOUT}
        self.elastic = [self._job("elastic", STAGE_1, zero_stage=stage, **options) for stage in (1, 3)]
        turns = {"pairs": "turns", "dropout": 0.0, **NO_DROPOUT}
        self.pairs_one = self._job("one", STAGE_2, workers=1, **turns)
        self.pairs_two = [self._job("two", STAGE_2, workers=2, zero_stage=stage, **turns) for stage in (0, 1, 3)]
        self.pairs_whole = self._job("whole", STAGE_2)
        self.pairs_resumed = self._job("resumed", STAGE_2)

    def other_world(self, world: int) -> list[TrainingJob]:
        """Return jobs of `world` workers, at every ZeRO stage, that resume from the checkpoint of `source`."""
        resume_from = ResumeSource(self.source.checkpoint, file_digest(self.source.checkpoint))
        return [
            self._job(f"world-{world}", STAGE_1, resume_from, workers=world, zero_stage=stage, **NO_DROPOUT)
            for stage in ZERO_STAGES
        ]

    def stopped_checkpoint(self, job: TrainingJob) -> Path:
        """Return the copy of a checkpoint that a job left when it was stopped."""
        return job.folder.with_suffix(".stopped.safetensors")

    def train(self, start) -> None:
        """Train all jobs; `start(world, runs)` runs one group of processes."""
        every = [self.exact, Run(self.source, STOPPED_AFTER), self.eleven, *self.whole.values()]
        every += [
            *(Run(job, STOPPED_AFTER) for job in self.resumed.values()),
            *(Run(job, 3) for job in self.elastic),
        ]
        every += [*self.pairs_two, self.pairs_whole, Run(self.pairs_resumed, 3)]
        start(2, every)
        resumable = [*self.resumed.values(), self.pairs_resumed]
        for job in resumable:
            shutil.copy(job.checkpoint, self.stopped_checkpoint(job))
        start(1, [self.whole[1], self.pairs_one, *self.other_world(1), *(Run(job, 7) for job in self.elastic)])
        start(3, [*self.other_world(3), *self.elastic])
        start(2, resumable)

    def _job(
        self, name: str, config: AdapterRecipe, resume_from: ResumeSource | None = None, **options
    ) -> TrainingJob:
        recipe, digest = config.model_copy(update=options), base_model_digest(self.base)
        init_from = self.init_from if config is STAGE_2 else None
        folder = self.home / name / adapter_key(recipe, DATASET, digest, resume_from, init_from)
        return TrainingJob(recipe, DATASET, self.base, "tiny", digest, folder, resume_from, init_from)


@pytest.fixture(scope="session")
def runs(tmp_path_factory, base, base_folder, token_rows, pair_rows, write_parent) -> Runs:
    """All jobs after training, which processes of pytest-xdist do once, in a folder that they share."""
    home = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        home = home.parent
    home = home / "training-workers"
    with FileLock(f"{home}.lock"):
        parent, finished = home / "parent", home / "finished"
        if not finished.exists():
            write_parent(parent, STAGE_2)
        found = Runs(home, base_folder, find_init_adapter(parent, STAGE_2, base_folder, base.digest))
        if not finished.exists():
            rows = {"mntp": token_rows, "contrastive": pair_rows}

            def start(world: int, group: list[Run | TrainingJob]) -> None:
                each = [one if isinstance(one, Run) else Run(one) for one in group]
                run_group(world, each, rows, tmp_path_factory.mktemp("rendezvous") / "file")

            found.train(start)
            finished.touch()
    return found


def steps_of(job: TrainingJob) -> list[int]:
    return [step for step, _ in losses_of(job)]


def only_losses(job: TrainingJob) -> list[float]:
    return [loss for _, loss in losses_of(job)]


@pytest.mark.parametrize("stage", ZERO_STAGES)
def test_a_stopped_and_resumed_run_ends_with_the_bytes_of_an_uninterrupted_one(runs, stage):
    whole, resumed = runs.whole[stage], runs.resumed[stage]
    assert folder_digest(resumed.folder) == folder_digest(whole.folder)
    assert losses_of(resumed) == losses_of(whole), "each step once, with the same loss"


@pytest.mark.parametrize("stage", ZERO_STAGES)
def test_a_stopped_run_writes_a_checkpoint_of_its_current_step(runs, stage):
    job = runs.resumed[stage]
    path = runs.stopped_checkpoint(job)
    check_checkpoint(path, job)
    assert read_checkpoint(path).progress.step == STOPPED_AFTER


def test_workers_restarted_after_the_end_leave_the_adapter_unchanged(runs):
    assert steps_of(runs.whole[1]) == list(range(1, STAGE_1.steps + 1)), (
        "one worker started it again, without a step"
    )
    assert read_card(runs.whole[1].folder).metrics["loss_last"] == only_losses(runs.whole[1])[-1]


@pytest.mark.parametrize("world", [1, 3])
def test_another_world_size_resumes_at_any_zero_stage_with_the_same_losses(runs, world):
    """From a checkpoint of two workers at stage 1. Three do not divide the weights, so ZeRO pads them."""
    jobs = runs.other_world(world)
    for job in jobs:
        check_checkpoint(runs.source.checkpoint, job)
        assert losses_of(job) == [
            (step, pytest.approx(loss, abs=1e-4)) for step, loss in losses_of(runs.exact)[STOPPED_AFTER:]
        ]
    cards = [read_card(job.folder) for job in jobs]
    assert {card.resumed_from for card in cards} == {file_digest(runs.source.checkpoint)}
    assert {card.metrics["loss_first"] for card in cards} == {only_losses(runs.exact)[0]}


@pytest.mark.parametrize("index", [0, 1], ids=["zero-1", "zero-3"])
def test_an_elastic_run_resumes_its_own_checkpoint_with_any_number_of_workers(runs, index):
    job = runs.elastic[index]
    assert steps_of(job) == list(range(1, STAGE_1.steps + 1))
    assert only_losses(job) == pytest.approx(only_losses(runs.eleven), abs=1e-4)
    assert read_card(job.folder).world_sizes == [(1, 2), (4, 1), (8, 3)]


def test_the_card_of_a_run_of_fixed_size_has_no_world_sizes(runs):
    assert read_card(runs.eleven.folder).world_sizes is None


@pytest.mark.parametrize("index", [0, 1, 2], ids=["zero-0", "zero-1", "zero-3"])
def test_contrastive_losses_and_weights_do_not_depend_on_the_number_of_workers(runs, index):
    one, two = runs.pairs_one, runs.pairs_two[index]
    assert losses_of(two) == [(step, pytest.approx(loss, abs=1e-4)) for step, loss in losses_of(one)]
    start, expected, found = (
        load_file(folder / "adapter_model.safetensors") for folder in (runs.init_from.path, one.folder, two.folder)
    )
    assert max(float((expected[name] - start[name]).abs().max()) for name in start) > 1e-3, "it did learn"
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-4, rtol=0)


def test_a_resumed_contrastive_run_ends_with_the_bytes_of_an_uninterrupted_one(runs):
    whole, resumed = runs.pairs_whole, runs.pairs_resumed
    assert read_checkpoint(runs.stopped_checkpoint(resumed)).progress.step == 3
    assert folder_digest(resumed.folder) == folder_digest(whole.folder)
    assert losses_of(resumed) == losses_of(whole), "each step once, with the same loss"


def test_a_contrastive_adapter_names_its_origin_and_loads_by_plain_peft(runs, base_folder):
    folder = runs.pairs_whole.folder
    card = read_card(folder)
    assert (card.objective, card.init_from) == ("contrastive", runs.init_from.digest)
    assert card.metrics.keys() >= {"loss_last", "batch_accuracy_last"}
    plain = AutoModel.from_pretrained(base_folder)
    plain.config.is_causal = False
    check_bidirectional(PeftModel.from_pretrained(plain, folder))
