"""The counts of benchmarks/quality.py, on conversations made here."""

import gzip
import json
import random

import pytest

from benchmarks.planted_junk import GOOD, JUNK, OTHER_LANGUAGES
from benchmarks.quality import SOURCES, keep, main, plant
from mongars.records import Turn

SPOKEN = [("user", "Where is it?"), ("assistant", "Over there."), ("user", "Thanks"), ("assistant", "Bye")]
TURNS = [Turn(role, text) for role, text in SPOKEN]


@pytest.fixture
def folder(tmp_path):
    row = {"id": "a", "messages": [{"role": role, "content": text} for role, text in SPOKEN]}
    for name in SOURCES:
        with gzip.open(tmp_path / name, "wt", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
    return tmp_path


def test_kept_files_and_classes_are_counted(measured, folder):
    result = measured(main, "--data", folder)
    assert result["kept"][SOURCES[0]]["kept_turns"] == 4
    assert set(result["junk"]) == set(JUNK)
    assert result["languages"]["German"] == {"planted": 1, "dropped": 1}
    assert result["good"]["one word"] == {"planted": 1, "dropped": 0}


def test_a_planted_turn_counts_only_when_it_is_dropped():
    assert plant(lambda rng, turn: "", [TURNS], 0) == {"planted": 1, "dropped": 1}
    assert plant(lambda rng, turn: "It is good.", [TURNS], 0) == {"planted": 1, "dropped": 0}


def test_reasons_of_dropped_turns_are_counted():
    counted = keep([[*TURNS, Turn("user", "")]])
    assert (counted["turns"], counted["kept_turns"], counted["reasons"]) == (5, 4, {"empty_turn": 1})


@pytest.mark.parametrize("make", [*JUNK.values(), *GOOD.values(), *OTHER_LANGUAGES.values()])
def test_a_seed_makes_the_same_turn_again(make):
    assert make(random.Random(3), "Where is it?") == make(random.Random(3), "Where is it?")


def test_a_missing_folder_is_an_error(failed, tmp_path):
    code, message = failed(main, "--data", tmp_path)
    assert (code, SOURCES[0] in message) == (2, True)
