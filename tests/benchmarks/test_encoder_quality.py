"""The starting line of adapters, on a tiny base and generated dialogues."""

import shutil

import numpy as np
import pytest

from benchmarks.encoder_quality import bm25_scores, main, turn_pairs
from mongars.errors import InputError
from mongars.records import Conversation, Turn
from mongars.registry import BaseSpec, PublishRequest
from mongars.registry.registry import AdapterRegistry


def dialogue(number, *texts):
    roles = ("user", "assistant")
    turns = tuple(Turn(roles[place % 2], text) for place, text in enumerate(texts))
    return Conversation(id=f"c{number}", user="u", turns=turns)


@pytest.fixture
def flags(base_folder, data_folder):
    return ["--base", base_folder, "--data", data_folder, "--pool", 40]


@pytest.fixture
def store(tmp_path, base, make_adapter):
    """A store with one published adapter; its digest."""
    adapter = make_adapter(3)
    root = tmp_path / "encoders"
    published = AdapterRegistry(root).publish(PublishRequest(adapter.folder, "tiny", BaseSpec.of(base.path)))
    return root, published.adapter.digest


def by_name(result):
    return {row["encoder"]: row for row in result["rows"]}


def test_bm25_and_every_encoder_have_a_figure_with_its_interval(measured, flags):
    result = measured(main, *flags)
    rows = by_name(result)
    assert list(rows) == ["BM25", "causal", "bidirectional, untrained"]
    assert rows["BM25"]["recall_at_1"] == {"value": 1.0, "low": 1.0, "high": 1.0}  # each reply repeats its words
    assert "sts_spearman" not in rows["BM25"]
    assert rows["causal"] != rows["bidirectional, untrained"] | {"encoder": "causal"}
    for row in (rows["causal"], rows["bidirectional, untrained"]):
        for figure in (row["sts_spearman"], row["mrr"], row["recall_at_10"]):
            assert figure["low"] <= figure["value"] <= figure["high"]
    assert (result["pool"], result["sts_pairs"], result["adapter"]) == (40, 10, None)


def test_an_adapter_of_the_store_has_a_row_of_its_own(measured, flags, store):
    root, digest = store
    result = measured(main, *flags, "--encoders", root, "--adapter", digest[:12])
    rows = by_name(result)
    assert result["adapter"] == {"name": "tiny", "digest": digest}
    assert rows["bidirectional + tiny"]["mrr"] != rows["bidirectional, untrained"]["mrr"]


def test_a_missing_adapter_is_an_error(failed, flags, store):
    code, message = failed(main, *flags, "--encoders", store[0], "--adapter", "12345678")
    assert code == 1
    assert "No adapter has the digest 12345678" in message


def test_a_revoked_adapter_is_not_measured(failed, flags, store):
    root, digest = store
    AdapterRegistry(root).revoke(digest)
    code, message = failed(main, *flags, "--encoders", root, "--adapter", digest)
    assert code == 1
    assert "is revoked" in message


def test_an_adapter_that_the_gate_refused_can_be_measured(measured, tmp_path, flags, base, make_adapter):
    registry = AdapterRegistry(tmp_path / "encoders")
    request = PublishRequest(make_adapter(3).folder, "tiny", BaseSpec.of(base.path))
    made = registry.register(request).adapter
    registry.reject(made.digest, metrics={})
    result = measured(main, *flags, "--encoders", registry.store.root, "--adapter", made.digest)
    assert "bidirectional + tiny" in by_name(result)


def test_an_adapter_of_another_base_is_refused(failed, tmp_path, flags, base_folder, store):
    other = shutil.copytree(base_folder, tmp_path / "other")
    config = other / "config.json"
    config.write_text(config.read_text() + "\n")  # other bytes, another digest
    root, digest = store
    code, message = failed(main, *flags, "--base", other, "--encoders", root, "--adapter", digest)
    assert code == 1
    assert "was trained on the base" in message


def test_missing_data_is_an_error(failed, base_folder, tmp_path):
    code, message = failed(main, "--base", base_folder, "--data", tmp_path / "nowhere")
    assert code == 2
    assert "stsb_en_dev.csv" in message


def test_too_few_dialogues_for_the_pool_are_an_error_with_their_count(failed, flags):
    code, message = failed(main, *flags, "--pool", 41)
    assert code == 2
    assert "--pool 40" in message


def test_each_conversation_gives_one_pair_and_no_reply_comes_twice():
    same = [dialogue(number, f"question {number}", "Yes.") for number in range(5)]
    long = dialogue(9, "first", "one", "second", "two", "third", "three")
    queries, replies = turn_pairs([*same, long], 2, seed=0)
    assert sorted(reply == "Yes." for reply in replies) == [False, True]
    pairs = set(zip(queries, replies, strict=True))
    assert pairs & {("first", "one"), ("second", "two"), ("third", "three")}
    with pytest.raises(InputError, match="2 pairs"):
        turn_pairs([*same, long], 3, seed=0)


def test_pairs_repeat_with_their_seed_and_change_with_it():
    many = [dialogue(n, f"a{n}", f"b{n}", f"c{n}", f"d{n}") for n in range(30)]
    assert turn_pairs(many, 10, seed=1) == turn_pairs(many, 10, seed=1)
    assert turn_pairs(many, 10, seed=1) != turn_pairs(many, 10, seed=2)


def test_only_a_reply_to_a_user_is_a_pair():
    odd = Conversation(
        id="c",
        user="u",
        turns=(Turn("assistant", "hello"), Turn("user", "a"), Turn("user", "b"), Turn("assistant", " ")),
    )
    with pytest.raises(InputError, match="0 pairs"):
        turn_pairs([odd], 1, seed=0)


def test_bm25_stems_and_ignores_words_that_no_document_has():
    scores = bm25_scores(
        ["booking tables", "zebra", "the"], ["Your table is booked.", "It will rain.", "Goodbye then."]
    )
    assert np.argmax(scores[0]) == 0
    assert scores[0, 0] > scores[0, 1]
    assert not scores[1:].any()
