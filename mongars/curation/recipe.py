"""The recipe of a curation, with its hash, and the report."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mongars.curation.filters.language import check_languages
from mongars.errors import SettingsError
from mongars.formats.jsonl import BadLine
from mongars.records import DatasetRef
from mongars.storage.digests import canonical_json_digest

# Raised with every change of a rule, threshold or detector, so that a version records the rules that made it.
RULES = 3
# Called with (conversations done, total or None if unknown, name of the stage).
OnProgress = Callable[[int, int | None, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurationRecipe:
    """Every option that changes the content of a dataset. Raises SettingsError for impossible values."""

    languages: tuple[str, ...] = ("en", "fr")
    retention_days: int | None = None
    # Whether to search for person names that are not known values; known ones are always replaced.
    person_names: bool = True
    # Jaccard similarity of character 5-grams from which two conversations are near copies. Distinct dialogues,
    # even from one template, stay below 0.6; a short dialogue with one word changed stays above 0.8.
    near_duplicate_jaccard: float = 0.7
    test_share: float = 0.1
    # Determines which subjects are in the test split.
    split_seed: int = 0

    def __post_init__(self) -> None:
        if not self.languages:
            raise SettingsError("No language is configured.", remedy="Name at least one, such as en.")
        check_languages(self.languages)
        if self.retention_days is not None and self.retention_days < 1:
            raise SettingsError("retention_days must be at least 1.", remedy="Leave it out for no limit.")
        if not 0 < self.near_duplicate_jaccard <= 1:
            raise SettingsError(
                "near_duplicate_jaccard must be above 0 and at most 1.", remedy="0.7 is the default."
            )
        if not 0 <= self.test_share < 1:
            raise SettingsError("test_share must be at least 0 and below 1.", remedy="0.1 is the default.")

    def as_json(self) -> dict[str, object]:
        """Return the recipe, with the version of the rules, as JSON values."""
        return {**dataclasses.asdict(self), "languages": sorted(self.languages), "rules": RULES}

    def digest(self) -> str:
        """Return the hash of the recipe: sha256 of its canonical JSON, in hex."""
        return canonical_json_digest(self.as_json())


@dataclass(frozen=True, slots=True)
class CurationReport:
    """The result of a curation: `rows_read` = `rows_kept` + the sum of `dropped` + the bad lines.

    `dropped` counts conversations by reason, `turns_dropped` turns of conversations that passed the checks before.
    `pii` counts replaced spans in the rows kept, by type. `leaks` counts rows in which the leak check found
    something, by type; if there are any, the version is quarantined. `reused` means that an equal version existed
    already.
    """

    dataset: DatasetRef
    rows_read: int
    rows_kept: int
    dropped: Mapping[str, int]
    pii: Mapping[str, int]
    bad_lines: tuple[BadLine, ...]
    reused: bool
    turns_dropped: Mapping[str, int] = field(default_factory=dict)
    leaks: Mapping[str, int] = field(default_factory=dict)
    splits: Mapping[str, int] = field(default_factory=dict)
