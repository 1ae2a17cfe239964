"""Turns to load: at most half as many at once as there are cores."""

import os

import pytest
from filelock import FileLock, Timeout

from mongars.serving.turns import loading_turn


def is_free(folder, turn):
    try:
        with FileLock(folder / f"loading-{turn}.lock", timeout=0):
            return True
    except Timeout:
        return False


@pytest.mark.parametrize(("cores", "turns"), [(1, 1), (2, 1), (3, 1), (8, 4)])
def test_a_process_holds_one_of_the_turns_and_gives_it_back(tmp_path, cores, turns):
    folder = tmp_path / "turns"
    with loading_turn(folder, cores=cores):
        free = [is_free(folder, turn) for turn in range(turns)]
        assert free.index(False) == os.getpid() % turns
        assert free.count(False) == 1
        assert folder.stat().st_mode & 0o077 == 0
    assert all(is_free(folder, turn) for turn in range(turns))


def test_a_load_that_fails_gives_its_turn_back(tmp_path):
    def fail():
        with loading_turn(tmp_path, cores=2):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert is_free(tmp_path, 0)
