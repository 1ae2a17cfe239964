"""The files of unfinished runs: lists and removes them, and detects whether a run is alive.

Such files contain weights trained on users' text, and for a base model the text itself. Users can delete them like
the text, with `mongars runs`.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from mongars.errors import TrainingError

KEY = "[0-9a-f]{16}"
CHECKPOINT = "checkpoint.safetensors"
_STORAGE = ".ray-train-"
_LOCK = "alive.lock"
_LEFT = re.compile(rf"({KEY})\.{CHECKPOINT}|({KEY})\.stop|\.({KEY})\..*\.tmp|\.ray-train-({KEY})-.*")


@dataclass(frozen=True, slots=True)
class UnfinishedRun:
    """A run and its files. `step` is None before the first checkpoint; a base is trained on no dataset version."""

    key: str
    makes: Literal["adapter", "base"]
    dataset: str | None  # NAME@VERSION
    step: int | None
    steps: int | None
    bytes: int
    changed: datetime
    alive: bool
    left: tuple[Path, ...]


@contextmanager
def storage_of_run(folder: Path, key: str) -> Iterator[Path]:
    """Yield a new folder in `folder` for the temporary state of a run, and remove it at the end.

    First removes the leftovers of an equal run that was killed. Raises TrainingError while an equal run is alive.
    """
    _refuse_alive(folder, key)
    for storage in _storages(folder, key):
        _remove(storage)
    remove_torn(folder, key)
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=f"{_STORAGE}{key}-") as made,
        FileLock(Path(made) / _LOCK),  # the operating system releases it when this process dies
    ):
        yield Path(made)


def remove_torn(folder: Path, key: str) -> None:
    """Remove files that workers left half written when they were killed. The run must not be alive."""
    for torn in folder.glob(f".{key}.*.tmp"):
        if torn.is_dir() or CHECKPOINT in torn.name:  # the others are small, and the driver's
            _remove(torn)


def unfinished_runs(adapters: Path, bases: Path) -> list[UnfinishedRun]:
    """Return the runs with files in these folders, by key.

    Includes finished runs of bases, because they keep the text.
    """
    left: dict[str, list[Path]] = {}
    for path in adapters.iterdir() if adapters.is_dir() else ():
        if found := _LEFT.fullmatch(path.name):
            left.setdefault(next(filter(None, found.groups())), []).append(path)
    runs = [
        _describe(key, "adapter", paths, adapters, adapters / f"{key}.{CHECKPOINT}") for key, paths in left.items()
    ]
    base_runs = [path for path in (bases.iterdir() if bases.is_dir() else ()) if re.fullmatch(KEY, path.name)]
    runs += [_describe(path.name, "base", [path], path, path / CHECKPOINT) for path in base_runs]
    return sorted(runs, key=lambda run: run.key)


def delete_run(run: UnfinishedRun) -> None:
    """Remove the files of an unfinished run, but no result. Raises TrainingError while the run is alive."""
    _refuse_alive(run.left[0] if run.makes == "base" else run.left[0].parent, run.key)
    for path in run.left:
        _remove(path)


def _describe(
    key: str, makes: Literal["adapter", "base"], paths: list[Path], folder: Path, checkpoint: Path
) -> UnfinishedRun:
    files = [each for path in paths for each in (path, *path.rglob("*"))]
    stats = [each.lstat() for each in files]
    header = _header(checkpoint)
    return UnfinishedRun(
        key,
        makes,
        dataset=header.get("label"),
        step=header.get("step"),
        steps=header.get("steps"),
        bytes=sum(stat.st_size for each, stat in zip(files, stats, strict=True) if each.is_file()),
        changed=datetime.fromtimestamp(max(stat.st_mtime for stat in stats), UTC),
        alive=_is_alive(folder, key),
        left=tuple(sorted(paths)),
    )


def _header(checkpoint: Path) -> dict[str, Any]:
    """Return label, step and steps of a checkpoint of either kind; empty if it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(checkpoint), "numpy") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError):
        return {}
    if "state" in metadata:
        state: dict[str, Any] = json.loads(metadata["state"])
        return state
    run = json.loads(metadata.get("run", "{}"))
    return {
        "label": run.get("label"),
        "step": run.get("progress", {}).get("step"),
        "steps": run.get("fixed", {}).get("steps"),
    }


def _storages(folder: Path, key: str) -> list[Path]:
    return sorted(folder.glob(f"{_STORAGE}{key}-*"))


def _is_alive(folder: Path, key: str) -> bool:
    for storage in _storages(folder, key):
        try:
            with FileLock(storage / _LOCK).acquire(timeout=0):
                pass
        except Timeout:
            return True
    return False


def _refuse_alive(folder: Path, key: str) -> None:
    if _is_alive(folder, key):
        raise TrainingError(f"The run {key} is running in another process.", remedy="Wait for it, or stop it.")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
