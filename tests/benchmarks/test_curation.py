"""The table of benchmarks/curation.py, on conversations made here."""

import sys

import pytest

from benchmarks import curation
from benchmarks.curation import NEMO, RULES, main, show

OURS = "ours, whole pipeline, 1 Ray CPU"


@pytest.fixture
def source(write_lines, conversations):
    return write_lines("chats.jsonl", conversations)


@pytest.fixture
def peer(tmp_path, monkeypatch):
    """A peer that counts the texts it is given, one turn a line, and keeps half of them."""
    script = tmp_path / "peer.py"
    script.write_text(
        "import sys, json\ntask = json.load(sys.stdin)\n"
        "texts = [json.loads(line)['text'] for line in open(task['path'])]\n"
        "assert all(len(text.splitlines()) == 2 for text in texts)\n"
        "print(json.dumps({'rates': [2.0] * task['repeats'], 'kept': len(texts) // 2}))\n"
    )
    monkeypatch.setattr(curation, "PEER", script)
    return sys.executable


@pytest.mark.ray
def test_curation_and_its_peer_read_the_same_conversations(measured, source, peer):
    result = measured(main, "--data", source, "--limit", 30, "--cpus", 1, "--repeats", 1, "--nemo", peer)
    assert result["conversations"] == 30
    assert result["kept"] == {OURS: 30, RULES: 30, NEMO: 15}
    assert result["rates"][NEMO] == [2.0]
    assert len(result["rates"][OURS]) == 1


def test_a_row_has_the_ratio_to_the_rate_of_the_peer():
    result = {
        "conversations": 9,
        "cores": 2,
        "rates": {OURS: [4.0, 8.0], NEMO: [2.0, 2.0]},
        "kept": {OURS: 9, NEMO: 3},
    }
    assert f"| {OURS} | 6.0 | 3.00 [2.00, 4.00] | 9 |" in show(result)
    assert f"| {OURS} | 6.0 |  | 9 |" in show(result | {"rates": {OURS: [4.0, 8.0]}})


def test_a_missing_file_or_peer_is_an_error_before_anything_is_measured(failed, source, tmp_path, monkeypatch):
    monkeypatch.setattr(curation, "_ours", lambda *_: pytest.fail("Ray must not start"))
    assert failed(main, "--data", source, "--nemo", "false")[0] == 4
    code, message = failed(main, "--data", tmp_path / "nowhere.jsonl")
    assert (code, "nowhere.jsonl" in message) == (2, True)
