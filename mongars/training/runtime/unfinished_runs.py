"""What runs leave that did not end: found, told and removed.

Owns the names of what a run keeps beside its folder, and whether a run lives. Must not know Ray, nor what is
trained. What is left holds weights that users' text made, and a base's run the text itself, so it can be deleted
like the text (`mongars runs`).
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
    """A run, and what it left. `step` is None before the first checkpoint; the base's text has no dataset."""

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
def storage_of_run(place: Path, key: str) -> Iterator[Path]:
    """Yield a new folder in `place` for what only a living run needs; it goes when the run ends.

    What an equal run left that was killed goes before. Raises TrainingError while an equal run lives.
    """
    _refuse_living(place, key)
    for storage in _storages(place, key):
        _remove(storage)
    remove_torn(place, key)
    with (
        tempfile.TemporaryDirectory(dir=place, prefix=f"{_STORAGE}{key}-") as made,
        FileLock(Path(made) / _LOCK),  # the system releases it when this process dies
    ):
        yield Path(made)


def remove_torn(place: Path, key: str) -> None:
    """Remove the halves of files that a run's workers were killed at. None of them may live."""
    for torn in place.glob(f".{key}.*.tmp"):
        if torn.is_dir() or CHECKPOINT in torn.name:  # not the small files, which are the driver's
            _remove(torn)


def unfinished_runs(adapters: Path, bases: Path) -> list[UnfinishedRun]:
    """Return the runs that left something in these folders, by key.

    A run of a base keeps its text when it has ended, too, so each of them is told.
    """
    left: dict[str, list[Path]] = {}
    for path in adapters.iterdir() if adapters.is_dir() else ():
        if found := _LEFT.fullmatch(path.name):
            left.setdefault(next(filter(None, found.groups())), []).append(path)
    runs = [
        _told(key, "adapter", paths, adapters, adapters / f"{key}.{CHECKPOINT}") for key, paths in left.items()
    ]
    works = [path for path in (bases.iterdir() if bases.is_dir() else ()) if re.fullmatch(KEY, path.name)]
    runs += [_told(path.name, "base", [path], path, path / CHECKPOINT) for path in works]
    return sorted(runs, key=lambda run: run.key)


def delete_run(run: UnfinishedRun) -> None:
    """Remove what a run left, and nothing that a finished one made. Raises TrainingError while it lives."""
    _refuse_living(run.left[0] if run.makes == "base" else run.left[0].parent, run.key)
    for path in run.left:
        _remove(path)


def _told(
    key: str, makes: Literal["adapter", "base"], paths: list[Path], place: Path, checkpoint: Path
) -> UnfinishedRun:
    files = [each for path in paths for each in (path, *path.rglob("*"))]
    stats = [each.lstat() for each in files]
    kept = _header(checkpoint)
    return UnfinishedRun(
        key,
        makes,
        dataset=kept.get("label"),
        step=kept.get("step"),
        steps=kept.get("steps"),
        bytes=sum(stat.st_size for each, stat in zip(files, stats, strict=True) if each.is_file()),
        changed=datetime.fromtimestamp(max(stat.st_mtime for stat in stats), UTC),
        alive=_lives(place, key),
        left=tuple(sorted(paths)),
    )


def _header(checkpoint: Path) -> dict[str, Any]:
    """Return what a checkpoint of either kind says of itself; nothing where there is none, or a damaged one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(checkpoint), "numpy") as file:
            told = file.metadata() or {}
    except (OSError, SafetensorError):
        return {}
    if "state" in told:
        state: dict[str, Any] = json.loads(told["state"])
        return state
    run = json.loads(told.get("run", "{}"))
    return {
        "label": run.get("label"),
        "step": run.get("progress", {}).get("step"),
        "steps": run.get("fixed", {}).get("steps"),
    }


def _storages(place: Path, key: str) -> list[Path]:
    return sorted(place.glob(f"{_STORAGE}{key}-*"))


def _lives(place: Path, key: str) -> bool:
    for folder in _storages(place, key):
        try:
            with FileLock(folder / _LOCK).acquire(timeout=0):
                pass
        except Timeout:
            return True
    return False


def _refuse_living(place: Path, key: str) -> None:
    if _lives(place, key):
        raise TrainingError(f"The run {key} is running in another process.", remedy="Wait for it, or stop it.")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
