"""Writing so that a reader, or a machine that lost power, sees the old state or the new one and nothing between.

Owns temporary names, fsync, rename, and what a full disk is called. Must not know what is written.
"""

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
    """Make a folder, and what is missing above it, for its owner only; one that is there stays as it is."""
    for missing in [each for each in (folder, *folder.parents) if not each.exists()][::-1]:
        missing.mkdir(mode=0o700, exist_ok=True)


def writable_folder(folder: Path, *, private: bool = False) -> None:
    """Make a folder, for its owner only when `private`, and try to write in it.

    Raises InputError for a place that this user may not write to, ResourceError for a full one.
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
    """Yield a binary stream that becomes `path` when the block ends: temporary file beside it, fsync, os.replace.

    `mode` is that of the file: 0o600 for secrets. Creates the parent folders. On an error `path` is what it was
    before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(mode)  # mkstemp makes it 0600; another process of the same service must read most files
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write `data` to `path` as `replacing` does. Raises OSError; then `path` is what it was before."""
    with replacing(path, mode=mode) as stream:
        stream.write(data)


@contextmanager
def naming_full_disk(place: Path) -> Iterator[None]:
    """Turn the OSError of a full disk, or of a quota, into a ResourceError that names the place."""
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
    """Yield an empty folder to fill; on success it becomes `target` by one rename, on an error it vanishes.

    `target` must not exist, or be empty: a finished folder is never changed. Raises FileExistsError else.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"))
    try:
        yield temporary
        _sync_tree(temporary)
        temporary.chmod(0o755)  # mkdtemp makes it 0700
        try:
            temporary.rename(target)  # POSIX rename(2): atomic, and refuses a folder that is not empty
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
            path.chmod(0o644)  # some writers (safetensors) make it 0600
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        elif path.is_dir():
            sync_folder(path)
    sync_folder(folder)
