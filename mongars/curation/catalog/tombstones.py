"""The people who were erased and must not return: `<root>/erased.json`, for all datasets of a catalog.

The file holds HMAC ids, which mean nothing without the secret. With another secret they would match nobody, so
keep the secret as long as the tombstones are needed.
"""

from datetime import datetime
from pathlib import Path
from typing import Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mongars.errors import DatasetRefusedError
from mongars.records import now
from mongars.storage.atomic import write_atomically


class _Erased(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    schema_version: Literal[1] = Field(1, alias="schema")
    subjects: dict[str, datetime] = Field(default_factory=dict)


class Tombstones:
    """The erased subjects of one catalog; safe for several processes on one machine."""

    def __init__(self, root: Path) -> None:
        self._path = root / "erased.json"

    def subjects(self) -> frozenset[str]:
        """Return the erased subjects. Raises DatasetRefusedError for a damaged file, which might hide one."""
        return frozenset(self._read().subjects)

    def add(self, subject: str) -> None:
        """Add a subject; one that is already listed keeps its date."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._path.with_name(".erased.lock")):
            subjects = {subject: now()} | self._read().subjects
            erased = _Erased(subjects=dict(sorted(subjects.items())))
            write_atomically(self._path, (erased.model_dump_json(by_alias=True, indent=2) + "\n").encode())

    def _read(self) -> _Erased:
        try:
            return _Erased.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return _Erased()
        except (OSError, ValidationError) as error:
            raise DatasetRefusedError(
                f"{self._path} cannot be read, so the erased people are unknown.",
                remedy="Restore it from a backup, then curate.",
            ) from error
