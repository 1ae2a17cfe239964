"""SHA-256 digests of files, folders and JSON values, the names of content-addressed data."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes in hex. Raises OSError when it cannot be read."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical_json(obj: Any) -> bytes:
    """Return canonical JSON: sorted keys, no spaces, UTF-8. Raises ValueError for NaN and infinity."""
    text = json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def canonical_json_digest(obj: Any) -> str:
    """Return the sha256 of `canonical_json(obj)` in hex."""
    return hashlib.sha256(canonical_json(obj)).hexdigest()


def folder_digest(folder: Path, names: Iterable[str] | None = None) -> str:
    """Return the sha256 of the folder's sorted list of [file name, file sha256], as canonical JSON.

    File names are relative to the folder, with `/` between parts. `names` restricts the list; by default every
    regular file below the folder counts. Raises OSError when the folder or a named file is missing.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"No such folder: {folder}")
    if names is None:
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return canonical_json_digest([[name, file_digest(folder / name)] for name in sorted(set(names))])
