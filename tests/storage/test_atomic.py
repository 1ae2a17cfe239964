import errno
from pathlib import Path

import pytest

from mongars.errors import InputError, ResourceError
from mongars.storage.atomic import (
    naming_full_disk,
    new_folder,
    private_folder,
    replacing,
    writable_folder,
    write_atomically,
)


def test_a_file_is_replaced_with_its_mode_and_leaves_no_temporary_file(tmp_path: Path):
    path = tmp_path / "inner" / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new", mode=0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_no_temporary_file(tmp_path: Path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(KeyError), replacing(path) as stream:
        stream.write(b"half")
        raise KeyError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_complete_and_readable(tmp_path: Path):
    target = tmp_path / "target"
    with new_folder(target) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_bytes(b"1")
        (folder / "inner" / "file").chmod(0o600)
        assert not target.exists()
    assert (target / "inner" / "file").stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_fails_never_appears(tmp_path: Path):
    with pytest.raises(KeyError), new_folder(tmp_path / "target") as folder:
        (folder / "half").write_bytes(b"1")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_finished_folder_is_never_changed(tmp_path: Path):
    with new_folder(tmp_path / "t") as folder:
        (folder / "file").write_bytes(b"first")
    with pytest.raises(FileExistsError), new_folder(tmp_path / "t") as folder:
        (folder / "file").write_bytes(b"second")
    assert (tmp_path / "t" / "file").read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [tmp_path / "t"]


def test_a_private_folder_and_its_new_parents_are_for_the_owner_only(tmp_path: Path) -> None:
    private_folder(tmp_path / "home" / "index")
    private_folder(tmp_path / "home")
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("home", "home/index")] == [0o700, 0o700]


def test_an_existing_folder_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(mode=0o755)
    private_folder(tmp_path / "shared")
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o755


def test_a_full_disk_is_an_error_with_its_place_and_others_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=str(tmp_path)), naming_full_disk(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), naming_full_disk(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_an_unwritable_folder_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none")):
        with pytest.raises(InputError, match=r"cannot be written to .* Give a folder"):
            writable_folder(place)
    writable_folder(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
