"""The dataset catalog: immutable versions in folders, published whole or not at all.

A version is `<root>/<name>/<version>/{part-*.parquet, duplicates-*.parquet, manifest.json, README.md,
croissant.json}`. It is filled in a hidden folder and becomes visible by one rename, so that readers see a whole
version or none, even after a power cut. A draft is that hidden folder; every visible version is `ready`,
`quarantined` or `erased`.
"""

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from mongars.curation.catalog.croissant import PartFile, croissant
from mongars.curation.catalog.draft import Draft
from mongars.curation.catalog.manifest import Manifest, Provenance
from mongars.curation.catalog.rows import as_rows, content_digest, is_of_rows, row_digests
from mongars.curation.catalog.tombstones import Tombstones
from mongars.errors import DatasetNotFoundError, DatasetRefusedError, InputError
from mongars.records import DatasetRef, now
from mongars.storage.atomic import new_folder, sync_folder, write_atomically
from mongars.storage.digests import file_digest

MANIFEST, CARD, CROISSANT = "manifest.json", "README.md", "croissant.json"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_VERSION = re.compile(r"v([1-9]\d*)")
_DRAFT = ".draft-"
_READ_ROWS = 4_096


class DatasetCatalog:
    """Versions `v1`, `v2`, ... of named datasets under one folder; safe for several processes on one machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tombstones = Tombstones(root)

    def list(self) -> tuple[DatasetRef, ...]:
        """Return every version, by name, then from old to new."""
        names = sorted(path.name for path in self.root.iterdir() if path.is_dir()) if self.root.is_dir() else []
        return tuple(
            self._manifest(name, version).ref()
            for name in names
            if _NAME.fullmatch(name)
            for version in self._versions(name)
        )

    def get(self, name: str, version: str = "latest") -> DatasetRef:
        """Return one version; `latest` is the newest that is not erased, or the newest if all are.

        A quarantined version can be the latest. Raises DatasetNotFoundError, and DatasetRefusedError for a damaged
        manifest.
        """
        versions = self._versions(name) if _NAME.fullmatch(name) else ()
        if version == "latest" and versions:
            version = self._latest(name, versions)
        if version not in versions:
            known = ", ".join(versions) or "none"
            raise DatasetNotFoundError(
                f"No dataset {name} {version} under {self.root} (versions of it: {known}).",
                remedy="Make one with: mongars curate FILE --name NAME",
                param="dataset",
            )
        return self._manifest(name, version).ref()

    def manifest(self, ref: DatasetRef) -> Manifest:
        """Return the manifest of a version. Raises as `get` does."""
        self.get(ref.name, ref.version)
        return self._manifest(ref.name, ref.version)

    def manifest_path(self, ref: DatasetRef) -> Path:
        """Return the path of a version's manifest."""
        return self._folder(ref.name, ref.version) / MANIFEST

    def parts(self, ref: DatasetRef) -> tuple[Path, ...]:
        """Return the Parquet files of a version, in order of their rows."""
        return tuple(self._folder(ref.name, ref.version) / part for part in self.manifest(ref).parts)

    def duplicates(self, ref: DatasetRef) -> tuple[Path, ...]:
        """Return the Parquet files of the duplicates set aside, in order of their rows."""
        duplicates = self.manifest(ref).duplicates
        parts = duplicates.parts if duplicates else ()
        return tuple(self._folder(ref.name, ref.version) / part for part in parts)

    def verify(self, ref: DatasetRef) -> None:
        """Check every row against the manifest and `ref`. Raises DatasetRefusedError when they do not match."""
        manifest = self.manifest(ref)
        if manifest.state == "erased":
            raise DatasetRefusedError(
                f"Dataset {ref.name} {ref.version} is erased: it has no rows to verify.",
                remedy="See the others with: mongars datasets list",
            )
        if manifest.digest != ref.digest:
            raise _damaged(ref, "its digest is not the requested one")
        self._check(ref, self.parts(ref), manifest.rows, manifest.digest)
        if manifest.duplicates:
            self._check(ref, self.duplicates(ref), manifest.duplicates.rows, manifest.duplicates.digest)

    def row_digests(self, ref: DatasetRef, parts: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
        """Yield (id, digest) of each row. Raises DatasetRefusedError, naming `ref`, for a damaged file."""
        for table in self.read(ref, parts):
            yield from zip(table["id"].to_pylist(), row_digests(table), strict=True)

    def read(self, ref: DatasetRef, parts: Iterable[Path]) -> Iterator[pa.Table]:
        """Yield the rows of a version's files in tables. Raises DatasetRefusedError for a damaged file."""
        for part in parts:
            try:
                # memory_map stays off: a file that another process truncates must be an error, not a crash.
                with pq.ParquetFile(part) as file:
                    if not is_of_rows(file.schema_arrow):
                        raise _damaged(ref, f"{part.name} has other columns")
                    for batch in file.iter_batches(batch_size=_READ_ROWS):
                        yield as_rows(pa.Table.from_batches([batch]))
            except (OSError, pa.ArrowException) as error:
                raise _damaged(ref, f"{part.name} cannot be read") from error

    def _check(self, ref: DatasetRef, parts: Iterable[Path], rows: int, digest: str) -> None:
        digests = [each for _, each in self.row_digests(ref, parts)]
        if len(digests) != rows:
            raise _damaged(ref, f"it has {len(digests)} rows and its manifest says {rows}")
        if content_digest(digests) != digest:
            raise _damaged(ref, "its rows do not match its digest")

    def require_ready(self, ref: DatasetRef) -> Manifest:
        """Return the manifest of a version that may be trained on.

        Raises DatasetRefusedError when it is not `ready`, has no rows, or has another digest than `ref`.
        """
        manifest = self.manifest(ref)
        if manifest.state != "ready":
            why = "the leak check found personal data; see its README.md" if manifest.leaks else "by decision"
            raise DatasetRefusedError(
                f"Dataset {ref.name} {ref.version} is {manifest.state} ({why}).",
                remedy="Correct or remove the affected conversations in the sources and curate again.",
            )
        if manifest.rows == 0:
            raise DatasetRefusedError(
                f"Dataset {ref.name} {ref.version} has no rows.",
                remedy="Its README.md says why every conversation was dropped. Add sources and curate again.",
            )
        if manifest.digest != ref.digest:
            raise _damaged(ref, "its digest is not the requested one")
        return manifest

    @contextmanager
    def open_draft(self, name: str) -> Iterator[Draft]:
        """Yield an empty draft, which is removed at the end unless it is published.

        Also removes drafts that killed processes left behind. Raises InputError for an impossible name.
        """
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{name!r} cannot name a dataset.",
                remedy="Use up to 64 lower-case letters, digits, - and _, such as chats.",
                param="name",
            )
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        with self._lock(name):
            _sweep(folder)
            home = Path(tempfile.mkdtemp(dir=folder, prefix=_DRAFT))
            # The operating system releases this lock however the process ends.
            alive = FileLock(home.with_suffix(".lock"))
            alive.acquire()
        try:
            with Draft(name, home) as draft:
                yield draft
        finally:
            shutil.rmtree(home, ignore_errors=True)
            home.with_suffix(".lock").unlink(missing_ok=True)
            alive.release()

    def publish(self, draft: Draft, provenance: Provenance) -> tuple[DatasetRef, bool]:
        """Publish a draft as the next version; return it and whether an equal version was reused instead.

        Equal means the same rows, duplicates and recipe. A version in which the leak check found something is
        `quarantined`, any other `ready`. Raises DatasetRefusedError when it has rows of a subject who was erased
        in the meantime.
        """
        draft.close()
        with self._lock(draft.name):
            self._refuse_erased(draft)
            digest, duplicates = draft.parts.digest(), draft.duplicates.digest()
            versions = self._versions(draft.name)
            for version in versions:
                manifest = self._manifest(draft.name, version)
                if manifest.matches(digest, duplicates, provenance):
                    return manifest.ref(), True
            number = 1 + max((int(version[1:]) for version in versions), default=0)
            manifest = draft.manifest(f"v{number}", provenance)
            with new_folder(self._folder(draft.name, manifest.version)) as folder:
                for part in (*draft.parts.paths, *draft.duplicates.paths):
                    part.rename(folder / part.name)
                (folder / CARD).write_text(manifest.card(), encoding="utf-8")
                (folder / CROISSANT).write_text(
                    croissant(manifest, _part_files(folder, manifest)), encoding="utf-8"
                )
                (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
            sync_folder(self.root)
        return manifest.ref(), False

    def holding(self, subject: str) -> tuple[DatasetRef, ...]:
        """Return the versions with rows of a subject on disk, by name, then from old to new.

        If the subject has a tombstone, no version published after this call started has rows of it.
        """
        names = dict.fromkeys(ref.name for ref in self.list())
        return tuple(ref for name in names for ref in self._holding(name, subject))

    def remove_rows(self, ref: DatasetRef, because: str = "a person was erased") -> None:
        """Mark a version as `erased` in its manifest, with the reason, then remove its rows. Safe to repeat."""
        folder = self._folder(ref.name, ref.version)
        with self._lock(ref.name):
            manifest = self._manifest(ref.name, ref.version)
            if manifest.state != "erased":
                manifest = manifest.erased(now(), because)
                write_atomically(folder / CARD, manifest.card().encode())
                write_atomically(folder / CROISSANT, croissant(manifest, ()).encode())
                write_atomically(folder / MANIFEST, manifest.to_json().encode())
            for path in folder.glob("*.parquet"):
                path.unlink()
            sync_folder(folder)

    def has_rows(self, ref: DatasetRef) -> bool:
        """Report whether rows of a version are on disk, even of one whose removal was killed."""
        return any(self._folder(ref.name, ref.version).glob("*.parquet"))

    def _holding(self, name: str, subject: str) -> Iterator[DatasetRef]:
        with self._lock(name):  # waits for a publication in progress
            for version in self._versions(name):
                manifest = self._manifest(name, version)
                if subject in manifest.subjects and self.has_rows(manifest.ref()):
                    yield manifest.ref()

    def _refuse_erased(self, draft: Draft) -> None:
        if draft.subjects & self.tombstones.subjects():
            raise DatasetRefusedError(
                "A person in this dataset was erased in the meantime; nothing was published.",
                remedy="Curate again; the erased person is left out.",
            )

    def _latest(self, name: str, versions: Sequence[str]) -> str:
        left = (each for each in reversed(versions) if self._manifest(name, each).state != "erased")
        return next(left, versions[-1])

    def _lock(self, name: str) -> FileLock:
        return FileLock(self.root / name / ".lock")

    def _folder(self, name: str, version: str) -> Path:
        return self.root / name / version

    def _versions(self, name: str) -> tuple[str, ...]:
        folder = self.root / name
        found = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
        return tuple(sorted(filter(_VERSION.fullmatch, found), key=lambda version: int(version[1:])))

    def _manifest(self, name: str, version: str) -> Manifest:
        try:
            text = (self._folder(name, version) / MANIFEST).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetRefusedError(
                f"The manifest of {name} {version} cannot be read.",
                remedy="Remove the folder and curate the sources again, or restore it from a backup.",
            ) from error
        return Manifest.from_json(text, f"{name} {version}")


def _part_files(folder: Path, manifest: Manifest) -> list[PartFile]:
    paths = [folder / part for part in manifest.parts]
    return [PartFile(path.name, path.stat().st_size, file_digest(path)) for path in paths]


def _sweep(folder: Path) -> None:
    """Remove what killed processes left. The caller has the lock of the name, so no publication is in progress."""
    for path in folder.glob(".v*.tmp"):
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(f"{_DRAFT}*"):
        if not path.is_dir():
            continue
        try:
            with FileLock(path.with_suffix(".lock"), timeout=0):
                shutil.rmtree(path, ignore_errors=True)
                path.with_suffix(".lock").unlink(missing_ok=True)
        except Timeout:
            continue


def _damaged(ref: DatasetRef, found: str) -> DatasetRefusedError:
    return DatasetRefusedError(
        f"Dataset {ref.name} {ref.version} is damaged: {found}.",
        remedy="Curate the sources again, or restore the version from a backup.",
    )
