"""Perplexities on generated text, and what is scored of it."""

import math

import numpy as np
import pytest
import torch

from benchmarks.language_model import (
    Texts,
    main,
    model_logs,
    perplexity_ratio,
    read_texts,
    unigram_logs,
    windows,
)
from mongars.cli.output import stages


@pytest.fixture
def files(write_lines, conversations):
    return (
        write_lines("train.jsonl", conversations[:30]),
        write_lines("texts.jsonl", [{"text": "hello there, how are you"}] * 5),
        write_lines("heldout.jsonl", conversations[30:]),
    )


def test_both_models_are_measured_on_the_same_tokens(measured, base_folder, files):
    train, texts, heldout = files
    result = measured(main, "--base", base_folder, "--train", train, "--train", texts, "--heldout", heldout)
    unigram, base = result["rows"]
    assert unigram["model"] == "unigram"
    assert unigram["ratio"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert base["ratio"]["value"] > 1.5  # random weights predict worse than token frequencies
    for row in (unigram, base):
        assert row["ratio"]["value"] == pytest.approx(row["perplexity"] / unigram["perplexity"])
        bits = math.log2(row["perplexity"]) * result["heldout"]["tokens"]
        assert row["bits_per_byte"] == pytest.approx(bits / result["heldout"]["bytes"])


def test_the_unigram_model_is_the_smoothed_frequency_of_scored_tokens():
    texts = Texts([np.array([0, 1, 1, 2])], [np.array([False, True, True, True])], np.array([3]), 0)
    assert np.exp(unigram_logs([texts], 4)) == pytest.approx(np.array([0.5, 2.5, 1.5, 0.5]) / 5)


def test_content_and_its_end_token_are_scored_and_roles_are_not(base, write_lines):
    line = {"id": "a", "messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "you"}]}
    texts = read_texts(write_lines("one.jsonl", [line, {"text": "how are"}]), base.tokenizer)
    said = [base.tokenizer.decode(ids[mask]) for ids, mask in zip(texts.ids, texts.scored, strict=True)]
    assert said == ["hello<|end|>you<|end|>", "how are"]
    assert texts.bytes.tolist() == [8, 7]


def test_bad_lines_are_counted_and_the_rest_is_measured(base, write_lines):
    texts = read_texts(write_lines("bad.jsonl", [{"id": "a"}, {"text": "hello"}]), base.tokenizer)
    assert (len(texts.ids), texts.bad_lines) == (1, 1)


@pytest.mark.parametrize("window", [4, 5, 8])
@pytest.mark.parametrize("length", [2, 3, 4, 5, 9, 16, 17, 30])
def test_windows_score_every_token_once_after_half_a_window_of_context(length, window):
    taken = []
    for start, first in windows(length, window):
        places = range(start + first, min(start + window, length))
        assert start == 0 or first >= window // 2
        taken += places
    assert taken == list(range(1, length))


def test_the_logs_are_those_of_the_model_one_document_at_a_time(base, write_lines):
    lines = [{"text": text} for text in ("hello there", "how", "are you today, how are you today?")]
    texts = read_texts(write_lines("three.jsonl", lines), base.tokenizer)
    with stages() as progress:
        found = model_logs(base.model, texts, progress)
    expected = []
    for ids in texts.ids:
        row = torch.tensor(ids, dtype=torch.long)[None]
        with torch.inference_mode():
            logs = base.model(input_ids=row).logits.log_softmax(dim=2)[0, :-1]
        expected += logs.gather(1, row[0, 1:, None]).squeeze(1).tolist()
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_document_longer_than_the_window_is_scored_to_its_end(base, write_lines):
    window = base.model.config.max_position_embeddings
    texts = read_texts(write_lines("long.jsonl", [{"text": "hello there, " * 400}]), base.tokenizer)
    assert len(texts.ids[0]) > 2 * window
    with stages() as progress:
        found = model_logs(base.model, texts, progress)
    tail = torch.tensor(texts.ids[0][window - window // 2 : 2 * window - window // 2], dtype=torch.long)[None]
    with torch.inference_mode():
        logs = base.model(input_ids=tail).logits.log_softmax(dim=2)[0, :-1]
    expected = logs.gather(1, tail[0, 1:, None]).squeeze(1)[window // 2 - 1 :].numpy()
    assert found[window - 1 : window - 1 + len(expected)] == pytest.approx(expected, abs=1e-4)
    assert (found < 0).all()


def test_the_interval_of_a_perplexity_ratio_resamples_documents():
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 50, 60)
    peer = tokens * 2.0
    model = peer + tokens * rng.normal(-0.5, 0.2, 60)
    estimate = perplexity_ratio(model, peer, tokens, seed=0)
    assert estimate.value == pytest.approx(math.exp(model.sum() / tokens.sum() - 2))
    assert estimate.low < estimate.value < estimate.high < 0.7


@pytest.mark.parametrize(("missing", "message"), [("--train", "nowhere"), ("--heldout", "nowhere")])
def test_a_missing_file_is_an_error(failed, base_folder, files, missing, message):
    arguments = {"--base": base_folder, "--train": files[0], "--heldout": files[2], missing: "nowhere.jsonl"}
    code, said = failed(main, *(part for pair in arguments.items() for part in pair))
    assert code == 2
    assert message in said
