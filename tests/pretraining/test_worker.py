"""A worker without Ray, from prepared text to a model that plain transformers loads."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mongars.lm.base import load_base
from mongars.lm.base_files import base_model_digest
from mongars.pretraining.job import PretrainJob
from mongars.pretraining.worker import run_pretraining
from tests.pretraining.processes import work
from tests.worker_processes import run_workers


@pytest.fixture
def job(tmp_path: Path, tiny, tiny_tokenizer, token_rows) -> PretrainJob:
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    np.save(tmp_path / "rows.npy", token_rows)
    np.save(tmp_path / "heldout.npy", token_rows[:5])
    return PretrainJob(
        config=tiny,
        folder=tmp_path,
        tokenizer=tmp_path / "tokenizer",
        rows=tmp_path / "rows.npy",
        heldout=tmp_path / "heldout.npy",
        output=tmp_path / "models" / "mini",
        sources=("a.jsonl", "b.jsonl.gz"),
    )


def test_plain_transformers_loads_the_folder_and_generates(job: PretrainJob):
    run_pretraining(job)
    model = AutoModelForCausalLM.from_pretrained(job.output)
    tokenizer = AutoTokenizer.from_pretrained(job.output)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Book a table."}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    with torch.no_grad():
        reply = model.generate(**prompt, max_new_tokens=4, do_sample=False)
    assert reply.shape[1] > prompt["input_ids"].shape[1]
    stops = model.generation_config.eos_token_id
    assert tokenizer.convert_tokens_to_ids("<|end|>") in stops
    assert tokenizer.eos_token_id in stops


def test_weights_are_stored_in_bf16_and_computed_in_fp32(job: PretrainJob):
    run_pretraining(job)
    base = load_base(job.output, dtype=torch.float32)
    parameters = sum(tensor.numel() for tensor in base.model.parameters())
    size = (job.output / "model.safetensors").stat().st_size
    assert 2 * parameters < size < 2 * parameters + 10_000
    assert base.model.config.max_position_embeddings == job.config.context


def test_the_same_text_and_recipe_give_the_same_digest(job: PretrainJob, tmp_path: Path):
    run_pretraining(job)
    first = base_model_digest(job.output)
    job.checkpoint.unlink()
    (job.output).rename(tmp_path / "first")
    run_pretraining(job)
    assert base_model_digest(job.output) == first


def test_the_card_describes_model_and_training(job: PretrainJob):
    run_pretraining(job)
    card = (job.output / "README.md").read_text()
    assert "not a model to serve customers with" in card
    assert "640 tokens: a.jsonl, b.jsonl.gz" in card
    assert "12 steps of 4 x 16 tokens: 768 tokens, 1.2 epochs" in card
    table = [line for line in card.splitlines() if line.startswith(("| 6 |", "| 12 |"))]
    assert len(table) == 2
    assert all(line.count("|") == 4 and line.split("|")[3].strip() for line in table)
    assert (job.output / "loss.svg").read_text().startswith("<?xml")


def test_two_workers_have_the_losses_of_one_but_for_rounding(job: PretrainJob, tmp_path: Path):
    one: list = []
    run_pretraining(job, report=one.append)
    two = replace(
        job,
        config=job.config.model_copy(update={"workers": 2}),
        folder=tmp_path / "two",
        output=tmp_path / "models" / "two",
    )
    two.folder.mkdir()
    run_workers(work, (str(tmp_path / "meeting"), two), 2)
    losses = np.loadtxt(two.folder / "losses")
    assert losses[:, 0].tolist() == [report.point.step for report in one]
    assert losses[:, 1].tolist() == pytest.approx([report.point.loss for report in one], abs=0.02)
