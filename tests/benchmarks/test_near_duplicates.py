"""The parts of benchmarks/near_duplicates.py, and the whole on generated conversations."""

import random
import sys

import pytest

from benchmarks import near_duplicates
from benchmarks.near_duplicates import brute_force, edited, main, near_pairs, plant
from mongars.cli.output import stages
from mongars.curation.dedup.minhash import shingle_hashes
from mongars.demo.generator import generate
from mongars.formats.jsonl import write_conversations

TEXT = " ".join(f"word{number}" for number in range(100))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "chats.jsonl"
    write_conversations(path, generate(150, seed=1).conversations)
    return path


@pytest.mark.parametrize("share", [0.05, 0.15])
def test_an_edited_text_differs_in_about_that_share_of_its_words(share):
    words = edited(TEXT, share, random.Random(1)).split()
    kept = len(set(words) & set(TEXT.split()))
    assert 100 * (1 - share) <= kept <= 100
    assert words != TEXT.split()


def test_every_fifth_text_has_a_copy_for_each_share():
    mixed, planted = plant([f"{TEXT} {number}" for number in range(10)], random.Random(1))
    assert len(mixed) == 14
    assert planted == {0.05: {(0, 10), (5, 12)}, 0.15: {(0, 11), (5, 13)}}


def test_brute_force_finds_what_near_pairs_finds():
    texts = [TEXT, edited(TEXT, 0.05, random.Random(1)), "quite another text", "quite another text!"]
    with stages() as progress:
        near = brute_force([shingle_hashes(text) for text in texts], 0.7, progress)
    assert near == near_pairs(texts, 0.7) == {(0, 1), (2, 3)}


def test_a_peer_gets_the_same_job(measured, file, tmp_path, monkeypatch):
    peer = tmp_path / "peer.py"
    peer.write_text("import json, sys\ntask = json.load(sys.stdin)\nprint([len(task['texts']) / 100])\n")
    monkeypatch.setattr(near_duplicates, "PEER", peer)
    result = measured(main, "--data", file, "--rows", 20, "--repeats", 1, "--datasketch", sys.executable)
    assert result["rates"]["datasketch"] == [0.4]
    assert result["texts"] == 28
    assert result["planted"]["0.05"]["pairs"] == 4
    assert result["near"] >= result["right"] > 0


def test_too_few_conversations_are_an_error(failed, file):
    code, message = failed(main, "--data", file, "--rows", 1000)
    assert (code, "too few" in message) == (2, True)
