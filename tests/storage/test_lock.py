from pathlib import Path

import pytest

from mongars.errors import UnavailableError
from mongars.storage.lock import file_lock


def test_a_lock_that_another_keeps_is_an_error_with_its_path(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with file_lock(lock, 1.0), pytest.raises(UnavailableError, match=r"\.lock"), file_lock(lock, 0.05):
        pass


def test_a_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    lock = tmp_path / "folder" / ".lock"
    with pytest.raises(KeyError), file_lock(lock, 1.0):
        raise KeyError
    with file_lock(lock, 0.05):
        assert lock.exists()
