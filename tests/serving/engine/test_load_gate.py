"""At most half as many loads at once as cores."""

import os

import pytest
from filelock import FileLock, Timeout

from mongars.serving.engine.load_gate import REST_S, adapter_load_slot, load_gate_folder


def is_free(folder, slot):
    try:
        with FileLock(folder / f"loading-{slot}.lock", timeout=0):
            return True
    except Timeout:
        return False


@pytest.mark.parametrize(("cores", "slots"), [(1, 1), (2, 1), (3, 1), (8, 4)])
def test_a_process_holds_one_of_the_slots_and_frees_it(tmp_path, cores, slots):
    folder = tmp_path / "load-gate"
    with adapter_load_slot(folder, cores=cores):
        free = [is_free(folder, slot) for slot in range(slots)]
        assert free.index(False) == os.getpid() % slots
        assert free.count(False) == 1
        assert folder.stat().st_mode & 0o077 == 0
    assert all(is_free(folder, slot) for slot in range(slots))


def test_a_load_that_waited_too_long_starts_without_a_slot(tmp_path, caplog):
    with FileLock(tmp_path / "loading-0.lock"):
        with adapter_load_slot(tmp_path, cores=2, patience_s=0):
            assert "loads at the same time" in caplog.text
        assert not is_free(tmp_path, 0)
    assert is_free(tmp_path, 0)


@pytest.mark.parametrize(
    ("since", "rest"),
    [(0.0, REST_S), (0.75 * REST_S, 0.25 * REST_S), (2 * REST_S, 0.0), (-86_400, REST_S)],
    ids=["at once", "soon", "later", "after a clock was set back"],
)
def test_a_load_pauses_until_a_while_after_the_last_one(tmp_path, monkeypatch, since, rest):
    rests: list[float] = []
    monkeypatch.setattr("mongars.serving.engine.load_gate.time.sleep", rests.append)
    with adapter_load_slot(tmp_path, cores=2):
        assert rests == []
    last = (tmp_path / "loaded-0").stat().st_mtime
    monkeypatch.setattr("mongars.serving.engine.load_gate.time.time", lambda: last + since)
    with adapter_load_slot(tmp_path, cores=2):
        assert rests == pytest.approx([rest], abs=1e-6)


def test_machines_that_share_a_home_have_separate_slots(tmp_path, monkeypatch):
    folders = set()
    for node in ("one", "other"):
        monkeypatch.setattr("platform.node", lambda node=node: node)
        folders.add(load_gate_folder(tmp_path))
    assert len(folders) == 2
    assert all(folder.is_relative_to(tmp_path) for folder in folders)


def test_a_load_that_fails_frees_its_slot(tmp_path):
    def fail():
        with adapter_load_slot(tmp_path, cores=2):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert is_free(tmp_path, 0)
