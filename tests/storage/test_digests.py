import hashlib
import json
from pathlib import Path

import pytest

from mongars.storage.digests import canonical_json, canonical_json_digest, file_digest, folder_digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "b").write_bytes(b"2")
    (tmp_path / "a").write_bytes(b"1")
    return tmp_path


def test_a_folder_digest_covers_sorted_names_and_file_digests(folder: Path):
    listed = [[name, hashlib.sha256(data).hexdigest()] for name, data in (("a", b"1"), ("b", b"2"))]
    text = json.dumps(listed, separators=(",", ":")).encode()
    assert folder_digest(folder) == hashlib.sha256(text).hexdigest()


def test_a_folder_digest_of_some_names_ignores_their_order(folder: Path):
    whole = folder_digest(folder)
    (folder / "c").write_bytes(b"3")
    assert folder_digest(folder, ["b", "a"]) == whole != folder_digest(folder)


def test_renaming_or_moving_a_file_changes_the_digest(folder: Path):
    before = folder_digest(folder)
    (folder / "inner").mkdir()
    (folder / "a").rename(folder / "inner" / "a")
    assert folder_digest(folder) != before


def test_a_missing_folder_or_file_is_an_error(folder: Path):
    with pytest.raises(FileNotFoundError):
        folder_digest(folder / "absent")
    with pytest.raises(FileNotFoundError):
        folder_digest(folder, ["absent"])
    with pytest.raises(FileNotFoundError):
        file_digest(folder / "absent")


def test_equal_values_have_equal_canonical_json():
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()
    assert canonical_json_digest({"b": 1, "a": 2}) == canonical_json_digest({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))
