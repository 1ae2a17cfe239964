"""The counts of benchmarks/pii.py, on data made here."""

import gzip
import json
import sys

import pytest

from benchmarks import pii
from benchmarks.pii import count, main, tagged

TEXT = "Write to anna@example.com or pay with 4242 4242 4242 4242."


@pytest.fixture
def folder(tmp_path):
    spans = [
        {"start_position": 9, "end_position": 25, "entity_type": "EMAIL_ADDRESS"},
        {"start_position": 0, "end_position": 5, "entity_type": "PHONE_NUMBER"},
        {"start_position": 0, "end_position": 5, "entity_type": "PERSON"},
    ]
    (tmp_path / "pii_generated_large.json").write_text(json.dumps([{"full_text": TEXT, "spans": spans}]))
    utterance = {"text": "call 408-247-8880", "spans": [{"start": 5, "end": 17, "type": "phone_number"}]}
    with gzip.open(tmp_path / "sgd_dev_slots.jsonl.gz", "wt") as stream:
        stream.write(json.dumps(utterance) + "\n")
    (tmp_path / "wnut17_dev.conll").write_text("Hello\tO\nPatricia\tB-person\nJohnson\tI-person\n\t\nhi\tO\n")
    return tmp_path


def test_what_was_found_missed_and_false_is_counted_by_type(measured, folder):
    result = measured(main, "--data", folder, "--repeats", 1)
    ours = result["structured"]["ours"]
    assert ours["EMAIL"] == {"gold": 1, "found": 1, "false": 0}
    assert ours["PHONE"] == {"gold": 1, "found": 0, "false": 0}
    assert ours["CARD"] == {"gold": 0, "found": 0, "false": 1}
    assert result["phones"] == {"gold": 1, "found": 1, "false": 0, "utterances": 1}
    assert result["names"]["gold"] == 1
    assert set(result["rates"]) == {
        "ours",
        "ours with person names",
        "ours with person names, cold cache",
    }


def test_a_span_is_found_when_half_of_the_union_overlaps():
    gold = [[(0, 10, "A")]]
    assert count([[(0, 5, "A")]], gold, ["A"])["A"]["found"] == 1
    assert count([[(0, 4, "A")]], gold, ["A"])["A"] == {"gold": 1, "found": 0, "false": 1}
    assert count([[(0, 10, "B")]], gold, ["A"])["A"] == {"gold": 1, "found": 0, "false": 0}


def test_a_conll_file_gives_sentences_and_the_spans_of_persons(folder):
    assert tagged(folder / "wnut17_dev.conll") == (["Hello Patricia Johnson", "hi"], [[(6, 22, "PERSON")], []])


def test_a_peer_is_measured_in_the_same_run(measured, folder, tmp_path, monkeypatch):
    peer = tmp_path / "peer.py"
    peer.write_text(
        "import sys, json\nsys.stdin.readline()\nprint('1', flush=True)\n"
        "for line in sys.stdin:\n"
        "    print('2.0' if line.strip() == 'time' else json.dumps([[[9, 25, 'EMAIL_ADDRESS', 1]]]), flush=True)\n"
    )
    monkeypatch.setattr(pii, "PEER", peer)
    result = measured(main, "--data", folder, "--repeats", 2, "--presidio", sys.executable)
    assert result["rates"]["Presidio"] == [0.5, 0.5]
    assert result["structured"]["Presidio"]["EMAIL_ADDRESS"]["found"] == 1


def test_a_missing_peer_or_data_is_an_error(failed, folder, tmp_path):
    assert failed(main, "--data", folder, "--presidio", "false", "--repeats", 1)[0] == 4
    code, message = failed(main, "--data", tmp_path / "nowhere")
    assert (code, "pii_generated_large.json" in message) == (2, True)
