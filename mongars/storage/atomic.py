"""Atomic writes: a reader, or a machine after a power loss, sees the old state or the new one."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mongars.errors import InputError, ResourceError

FULL = (errno.ENOSPC, errno.EDQUOT)


def private_folder(folder: Path) -> None:
    """Create a folder and its missing parents for their owner only. Existing ones keep their mode."""
    for missing in [each for each in (folder, *folder.parents) if not each.exists()][::-1]:
        missing.mkdir(mode=0o700, exist_ok=True)


def writable_folder(folder: Path, *, private: bool = False) -> None:
    """Create a folder, for its owner only when `private`, and check that it is writable.

    Raises InputError when this user may not write to it, ResourceError when the disk is full.
    """
    try:
        with naming_full_disk(folder):
            if private:
                private_folder(folder)
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written to ({error.strerror}).",
            remedy="Give a folder that this user may write to; by default it is under MONGARS_HOME.",
        ) from error


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename in it survives a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Yield a binary stream that replaces `path` when the block ends; on an error `path` is unchanged.

    Writes a temporary file in the same folder, then calls fsync and os.replace. Creates the parent folders. `mode`
    is the file's: 0o600 for secrets.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(mode)  # mkstemp creates it with 0600; other users of the service must read most files
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace `path` by `data`; on an OSError `path` is unchanged."""
    with replacing(path, mode=mode) as stream:
        stream.write(data)


@contextmanager
def naming_full_disk(place: Path) -> Iterator[None]:
    """Turn the OSError of a full disk or quota into a ResourceError that names the place."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise ResourceError(
            f"No space is left at {place}.", remedy="Free some, then start the same command again."
        ) from error


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that is renamed to `target` when the block ends, or removed on an error.

    Raises FileExistsError when `target` exists and is not empty: a finished folder is never changed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"))
    try:
        yield temporary
        _sync_tree(temporary)
        temporary.chmod(0o755)  # mkdtemp creates it with 0700
        try:
            temporary.rename(target)  # POSIX rename(2) is atomic and refuses a target that is not empty
        except OSError as error:
            if target.exists():
                raise FileExistsError(f"{target} exists already") from error
            raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(target.parent)


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            path.chmod(0o644)  # some writers (safetensors) create it with 0600
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        elif path.is_dir():
            sync_folder(path)
    sync_folder(folder)
