"""How two versions of datasets differ: rows by their ids, and the recipes that made them.

Owns the comparison. Must not know files or text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.records import DatasetRef


@dataclass(frozen=True, slots=True)
class Difference:
    """What `other` has that `one` has not, by row id in order.

    `changed` rows have the same id and another content, or only another split. `recipe` holds (value of one, value
    of other) of each knob that differs, None where a recipe has no such knob.
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
    knobs = sorted(recipes[0].keys() | recipes[1].keys())
    values = {knob: (recipes[0].get(knob), recipes[1].get(knob)) for knob in knobs}
    return Difference(
        one=one,
        other=other,
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(sorted(changed)),
        unchanged=len(same - changed),
        recipe={knob: pair for knob, pair in values.items() if pair[0] != pair[1]},
    )


def _rows(catalog: DatasetCatalog, ref: DatasetRef) -> dict[str, bytes]:
    catalog.verify(ref)
    return dict(catalog.row_digests(ref, catalog.parts(ref)))
