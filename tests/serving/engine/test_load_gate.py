"""Turns to load: at most half as many at once as there are cores."""

import os

import pytest
from filelock import FileLock, Timeout

from mongars.serving.engine.load_gate import REST_S, adapter_load_slot, load_gate_folder


def is_free(folder, turn):
    try:
        with FileLock(folder / f"loading-{turn}.lock", timeout=0):
            return True
    except Timeout:
        return False


@pytest.mark.parametrize(("cores", "turns"), [(1, 1), (2, 1), (3, 1), (8, 4)])
def test_a_process_holds_one_of_the_turns_and_gives_it_back(tmp_path, cores, turns):
    folder = tmp_path / "turns"
    with adapter_load_slot(folder, cores=cores):
        free = [is_free(folder, turn) for turn in range(turns)]
        assert free.index(False) == os.getpid() % turns
        assert free.count(False) == 1
        assert folder.stat().st_mode & 0o077 == 0
    assert all(is_free(folder, turn) for turn in range(turns))


def test_who_waited_too_long_loads_all_the_same_and_takes_nobodys_turn(tmp_path, caplog):
    with FileLock(tmp_path / "loading-0.lock"):
        with adapter_load_slot(tmp_path, cores=2, patience_s=0):
            assert "loads beside it" in caplog.text
        assert not is_free(tmp_path, 0)
    assert is_free(tmp_path, 0)


@pytest.mark.parametrize(
    ("since", "rest"),
    [(0.0, REST_S), (0.75 * REST_S, 0.25 * REST_S), (2 * REST_S, 0.0), (-86_400, REST_S)],
    ids=["at once", "soon", "later", "by a clock that was set back"],
)
def test_who_loads_after_another_rests_until_a_while_after_it(tmp_path, monkeypatch, since, rest):
    rests: list[float] = []
    monkeypatch.setattr("mongars.serving.engine.load_gate.time.sleep", rests.append)
    with adapter_load_slot(tmp_path, cores=2):
        assert rests == []
    last = (tmp_path / "loaded-0").stat().st_mtime
    monkeypatch.setattr("mongars.serving.engine.load_gate.time.time", lambda: last + since)
    with adapter_load_slot(tmp_path, cores=2):
        assert rests == pytest.approx([rest], abs=1e-6)


def test_machines_that_share_a_home_have_turns_of_their_own(tmp_path, monkeypatch):
    folders = set()
    for node in ("one", "other"):
        monkeypatch.setattr("platform.node", lambda node=node: node)
        folders.add(load_gate_folder(tmp_path))
    assert len(folders) == 2
    assert all(folder.is_relative_to(tmp_path) for folder in folders)


def test_a_load_that_fails_gives_its_turn_back(tmp_path):
    def fail():
        with adapter_load_slot(tmp_path, cores=2):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert is_free(tmp_path, 0)
