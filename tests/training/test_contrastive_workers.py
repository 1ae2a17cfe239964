"""Stage 2 under DeepSpeed, in real processes that share a real process group, from an adapter of stage 1."""

from functools import partial
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel

from mongars.lm.base_files import base_model_digest
from mongars.neurons.bidirectional import prove_bidirectional
from mongars.records import DatasetRef
from mongars.registry.card import read_card
from mongars.storage.digests import folder_digest
from mongars.training.config import ContrastiveConfig
from mongars.training.runtime.init_adapter import find_init_adapter
from mongars.training.runtime.job import InitAdapter, TrainingJob, adapter_key
from tests.training.processes import losses_of

CONFIG = ContrastiveConfig(
    lora_rank=4, learning_rate=1e-3, max_tokens=32, batch_pairs=8, steps=7, checkpoint_steps=2, min_tokens=1
)
EXACT = {"pairs": "turns", "dropout": 0.0, "lora_dropout": 0.0}
DATASET = DatasetRef("chats", "1", "d" * 64, "ready", 40)
STOPPED_AFTER = 3  # between two checkpoints


@pytest.fixture
def run(run_workers, pair_rows):
    """Return run(world, [(job, step to stop after)])."""
    return partial(run_workers, pair_rows)


@pytest.fixture
def parent(write_parent, tmp_path, base, base_folder) -> InitAdapter:
    return find_init_adapter(write_parent(tmp_path / "parent", CONFIG), CONFIG, base_folder, base.digest)


@pytest.fixture
def job_of(base_folder, parent):
    """Return job_of(output, **knobs)."""

    def build(output: Path, **knobs) -> TrainingJob:
        config = CONFIG.model_copy(update=knobs)
        digest = base_model_digest(base_folder)
        folder = output / adapter_key(config, DATASET, digest, None, parent)
        return TrainingJob(config, DATASET, base_folder, "tiny", digest, folder, None, parent)

    return build


def test_one_and_two_workers_have_the_same_losses_and_weights_at_any_stage(run, job_of, tmp_path, parent):
    one = job_of(tmp_path / "one", workers=1, **EXACT)
    more = [job_of(tmp_path / "two", workers=2, zero_stage=stage, **EXACT) for stage in (0, 1, 3)]
    run(1, [(one, 0)])
    run(2, [(job, 0) for job in more])
    weights, start = (load_file(folder / "adapter_model.safetensors") for folder in (one.folder, parent.path))
    assert max(float((weights[name] - start[name]).abs().max()) for name in start) > 1e-3, "it did learn"
    for job in more:
        assert losses_of(job) == [(step, pytest.approx(loss, abs=1e-4)) for step, loss in losses_of(one)]
        other = load_file(job.folder / "adapter_model.safetensors")
        assert weights.keys() == other.keys()
        for name, tensor in weights.items():
            torch.testing.assert_close(other[name], tensor, atol=1e-4, rtol=0)


def test_a_run_that_was_stopped_ends_with_the_bytes_of_a_whole_one(run, job_of, tmp_path, base_folder, parent):
    whole, resumed = (job_of(tmp_path / name) for name in ("whole", "resumed"))
    run(2, [(whole, 0), (resumed, STOPPED_AFTER)])
    assert resumed.checkpoint.exists()
    assert not resumed.folder.exists()
    run(2, [(resumed, 0)])
    assert folder_digest(resumed.folder) == folder_digest(whole.folder)
    assert losses_of(resumed) == losses_of(whole), "each step once, with the same loss"

    card = read_card(whole.folder)
    assert (card.objective, card.init_from) == ("contrastive", parent.digest)
    assert card.metrics.keys() >= {"loss_last", "batch_accuracy_last"}
    plain = AutoModel.from_pretrained(base_folder)
    plain.config.is_causal = False
    prove_bidirectional(PeftModel.from_pretrained(plain, whole.folder))
