"""How two dataset versions differ: in rows, by id, and in the recipes that made them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.records import DatasetRef


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed from `one` to `other`, as sorted row ids.

    `changed` rows have the same id and other content, or only another split. `recipe` maps each option that
    differs to (value in one, value in other), None where a recipe lacks the option.
    """

    one: DatasetRef
    other: DatasetRef
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: int
    recipe: Mapping[str, tuple[Any, Any]]


def diff(catalog: DatasetCatalog, one: DatasetRef, other: DatasetRef) -> Difference:
    """Compare two versions. Raises DatasetRefusedError for one that is erased or damaged."""
    before, after = (_rows(catalog, ref) for ref in (one, other))
    same = before.keys() & after.keys()
    changed = {row for row in same if before[row] != after[row]}
    recipes = [catalog.manifest(ref).recipe for ref in (one, other)]
    options = sorted(recipes[0].keys() | recipes[1].keys())
    values = {option: (recipes[0].get(option), recipes[1].get(option)) for option in options}
    return Difference(
        one=one,
        other=other,
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(sorted(changed)),
        unchanged=len(same - changed),
        recipe={option: pair for option, pair in values.items() if pair[0] != pair[1]},
    )


def _rows(catalog: DatasetCatalog, ref: DatasetRef) -> dict[str, bytes]:
    catalog.verify(ref)
    return dict(catalog.row_digests(ref, catalog.parts(ref)))
