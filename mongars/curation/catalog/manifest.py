"""The description of a dataset version: `manifest.json` and the dataset card in Markdown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mongars.errors import DatasetRefusedError
from mongars.records import DatasetRef, DatasetState

SCHEMA = 2  # 1 had no duplicates set aside


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """How the rows of a version were made: the recipe, the sources and what was left out."""

    recipe: Mapping[str, Any]
    recipe_hash: str
    parents: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    rows_read: int = 0
    bad_lines: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    turns_dropped: Mapping[str, int] = field(default_factory=dict)
    pii: Mapping[str, int] = field(default_factory=dict)
    leaks: Mapping[str, int] = field(default_factory=dict)

    def as_facts(self) -> dict[str, Any]:
        """Return the fields as JSON values, counts in order of their names."""
        facts = {name: getattr(self, name) for name in self.__slots__}
        return {
            name: dict(sorted(value.items())) if isinstance(value, Mapping) else value
            for name, value in facts.items()
        } | {"parents": list(self.parents), "against": list(self.against)}


class SetAside(BaseModel):
    """Rows stored alongside the dataset, dropped only as duplicates of rows here or in prior versions."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    parts: list[str]
    rows: int = Field(ge=0)
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """Strict: an unknown key, a missing key or a value of another type is damage, not a newer format."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    schema_version: Literal[1, 2] = Field(alias="schema")
    name: str
    version: str
    state: DatasetState
    created_at: datetime
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0, description="Of the Parquet parts.")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of the rows, independent of their order.")
    recipe: dict[str, Any]
    recipe_hash: str
    parents: list[str] = Field(description="Digests of the sources: files, the repository, versions.")
    against: list[str] = Field([], description="Prior versions, NAME@VERSION, whose rows were left out.")
    parts: list[str]
    rows_read: int
    bad_lines: int
    dropped: dict[str, int]
    turns_dropped: dict[str, int]
    pii: dict[str, int]
    leaks: dict[str, int]
    splits: dict[str, int]
    subjects: list[str] = Field(description="HMAC ids of the people whose rows are, or were, in it or set aside.")
    duplicates: SetAside | None = Field(None, description="None in schema 1 and after an erasure.")
    erased_at: datetime | None = None
    erased_because: str | None = Field(None, description="Why the rows were removed.")

    def to_json(self) -> str:
        """Return the manifest as JSON."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> "Manifest":
        """Read a manifest. Raises DatasetRefusedError, naming `where`, when it is damaged."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise DatasetRefusedError(
                f"The manifest of {where} is damaged: {place}: {first['msg']}.",
                remedy="Curate the sources again, or restore the version from a backup.",
            ) from None

    def ref(self) -> DatasetRef:
        """Return the record that other packages use."""
        return DatasetRef(self.name, self.version, self.digest, self.state, self.rows)

    def matches(self, digest: str, duplicates: str, provenance: Provenance) -> bool:
        """Report whether it has these rows, duplicates and provenance; an erased version never does."""
        own = (self.digest, self.duplicates and self.duplicates.digest, self.recipe_hash, tuple(self.against))
        return self.state != "erased" and own == (digest, duplicates, provenance.recipe_hash, provenance.against)

    def erased(self, at: datetime, because: str) -> "Manifest":
        """Return the manifest of this version without its rows."""
        gone = {"state": "erased", "parts": [], "bytes": 0, "duplicates": None}
        return self.model_copy(update=gone | {"erased_at": at, "erased_because": because})

    @property
    def _erasure_reason(self) -> str:
        return self.erased_because or "a person was erased"  # the only reason before the field existed

    def card(self) -> str:
        """Return the dataset card in Markdown."""
        return "\n".join(
            [
                f"# {self.name} {self.version}",
                "",
                f"{self.rows} conversations, state `{self.state}`, made on {self.created_at:%Y-%m-%d}; "
                f"with the rows set aside, of {len(self.subjects)} people.",
                "",
                f"- content digest: `{self.digest}`",
                f"- recipe: `{self.recipe_hash}`",
                f"- read: {self.rows_read} lines, of which {self.bad_lines} could not be read",
                *([f"- without the rows of: {', '.join(self.against)}"] if self.against else []),
                *_aside_note(self.duplicates, self.against),
                *(
                    [f"- rows removed on {self.erased_at:%Y-%m-%d}: {self._erasure_reason}"]
                    if self.erased_at
                    else []
                ),
                "",
                *_counts("Splits", "by subject and near-duplicate cluster", self.splits),
                *_counts("Conversations dropped", "by reason", self.dropped),
                *_counts("Turns dropped", "by reason", self.turns_dropped),
                *_counts("Personal data replaced", "by type, in the rows kept", self.pii),
                *_counts("Found by the leak check", "rows, by type; any one quarantines the version", self.leaks),
                "## Limits",
                "",
                *_names_note(switched_on=self.recipe.get("person_names") is True),
                "Postal addresses and dates of birth are replaced only where the words around them identify them.",
                "Pseudonyms such as `<EMAIL_3f2a>` are equal for equal values of one person. They are keyed with",
                "a secret that is not part of this dataset.",
                "",
            ]
        )


def _aside_note(duplicates: SetAside | None, against: list[str]) -> list[str]:
    if duplicates is None:
        return []
    if against:
        return [f"- set aside as duplicates of rows here or there: {duplicates.rows} conversations"]
    return [f"- set aside as duplicates, in case a row is erased: {duplicates.rows} conversations"]


def _names_note(*, switched_on: bool) -> list[str]:
    """Say whether person names were searched for; the card of the tagger has its recall."""
    if switched_on:
        return [
            "A small tagger searched for person names, in addition to the known values. It misses many of them",
            "and takes other words for names; `curation/pii/person_names/weights/README.md` has its recall.",
        ]
    return ["The tagger of person names was switched off: only known names of the user are replaced."]


def _counts(title: str, note: str, counts: dict[str, int]) -> list[str]:
    rows = [f"| {name} | {count} |" for name, count in sorted(counts.items())] or ["| none | 0 |"]
    return [f"## {title}", "", f"| {note} | count |", "|---|---|", *rows, ""]
