from pathlib import Path

from mongars.training.tracking.journal import Journal

ONE, TWO = {"event": "metrics", "at": 1}, {"event": "metrics", "at": 2}


def test_events_are_read_in_their_order_by_another_process_too(tmp_path: Path):
    journal = Journal(tmp_path / "inner" / "k.journal.jsonl")
    assert not journal
    journal.append(ONE)
    journal.append(TWO)
    assert Journal(journal.path).read() == [ONE, TWO]


def test_a_line_that_a_killed_process_left_half_is_dropped_and_swallows_no_other(tmp_path: Path):
    path = tmp_path / "k.journal.jsonl"
    Journal(path).append(ONE)
    with path.open("ab") as stream:
        stream.write(b'{"event": "met')
    journal = Journal(path)
    assert journal.read() == [ONE]
    journal.append(TWO)
    assert journal.read() == [ONE, TWO]


def test_a_journal_with_nothing_in_it_is_no_file(tmp_path: Path):
    journal = Journal(tmp_path / "k.journal.jsonl")
    journal.append(ONE)
    journal.replace([])
    assert list(tmp_path.iterdir()) == []
