"""Erasing a person from the datasets.

A dataset whose latest version has rows of the person gets a successor: what curating the same sources without that
person would have given, because duplicates were set aside and can replace the person's rows. Then every version
with rows of the person loses all its rows. The tombstone is written first, so the same call finishes an erasure
that was killed.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

import pyarrow as pa

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.curation.catalog.draft import Draft
from mongars.curation.catalog.manifest import Provenance
from mongars.curation.catalog.rows import ROW_SCHEMA, row_texts
from mongars.curation.dedup.row_index import index_of, shingles_of
from mongars.curation.dedup.selection import Selection, select
from mongars.curation.dedup.splits import DUPLICATE, PRIOR
from mongars.curation.filters.quality import DropReason
from mongars.curation.pii.leak_check import leaks
from mongars.curation.pii.pseudonyms import TAG
from mongars.curation.recipe import CurationRecipe
from mongars.records import DatasetRef

_BATCH_ROWS = 1_024


@dataclass(frozen=True, slots=True)
class Successor:
    """The version that replaces a dataset's latest one; `dataset` is None in a preview.

    `removed` counts the person's rows, `readmitted` former duplicates that replace them, `rows` the result.
    """

    of: DatasetRef
    dataset: DatasetRef | None
    removed: int
    readmitted: int
    rows: int


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erasure removes: `versions` are those with rows of the person.

    `dependents` left rows out because one of `versions` had them, or similar ones. If that was the person's row,
    the row left out is now in no version, until the sources are curated again (decision 019).
    """

    subject: str
    preview: bool
    versions: tuple[DatasetRef, ...]
    successors: tuple[Successor, ...]
    dependents: tuple[DatasetRef, ...] = ()


def erase(catalog: DatasetCatalog, subject: str, *, preview: bool = True) -> Erasure:
    """Show what erasing a subject would change, or with `preview=False` erase it.

    Afterwards no version has rows of the subject, and none can be published with them. Raises DatasetRefusedError
    for a damaged version, before any of its rows is removed.
    """
    if not preview:
        catalog.tombstones.add(subject)
    versions = catalog.holding(subject)
    dependents = _dependents(catalog, versions)
    successors = tuple(
        _succeed(catalog, ref, subject, preview=preview) for ref in versions if ref == catalog.get(ref.name)
    )
    if not preview:
        for ref in versions:
            catalog.remove_rows(ref)
    return Erasure(subject, preview, versions, successors, dependents)


def _dependents(catalog: DatasetCatalog, versions: Sequence[DatasetRef]) -> tuple[DatasetRef, ...]:
    """Return the ready versions that left rows out because one of `versions` has them."""
    names = {f"{ref.name}@{ref.version}" for ref in versions}
    others = ((ref, catalog.manifest(ref)) for ref in catalog.list() if ref.state == "ready")
    return tuple(
        ref
        for ref, manifest in others
        if names.intersection(manifest.against) and manifest.dropped.get(DropReason.IN_PRIOR_VERSION)
    )


def _succeed(catalog: DatasetCatalog, ref: DatasetRef, subject: str, *, preview: bool) -> Successor:
    """Select again among the rows of everybody else, and publish the result unless it is a preview."""
    catalog.verify(ref)
    manifest = catalog.manifest(ref)
    index = index_of(enumerate(_others(catalog, ref, subject)))
    selection = select(
        index,
        _recipe(manifest.recipe),
        lambda keys: shingles_of(enumerate(_others(catalog, ref, subject)), keys),
        pins=_splits(index) if manifest.against else {},
    )
    in_prior = [row for row in _set_aside_rows(catalog, ref, subject) if row["split"] == PRIOR]
    before = {row["id"] for row in _rows(catalog, ref, catalog.parts(ref)) if row["subject"] != subject}
    after = set(index["id"].take(selection.keys).to_pylist())
    removed = manifest.rows - len(before)
    dataset = None
    if not preview:
        with catalog.open_draft(ref.name) as draft:
            found, pii = _fill(draft, _others(catalog, ref, subject), selection)
            repeats: dict[str, int] = {DropReason.IN_PRIOR_VERSION: len(in_prior)} if in_prior else {}
            draft.set_aside(pa.Table.from_pylist(in_prior, schema=ROW_SCHEMA))
            provenance = Provenance(
                recipe=manifest.recipe,
                recipe_hash=manifest.recipe_hash,
                parents=(ref.digest,),
                against=tuple(manifest.against),
                rows_read=index.num_rows + len(in_prior) + removed,
                dropped={**selection.dropped, **repeats, DropReason.ERASED: removed},
                pii=pii,
                leaks=found,
            )
            dataset, _ = catalog.publish(draft, provenance)
    return Successor(ref, dataset, removed, len(after - before), len(selection.keys))


def _others(catalog: DatasetCatalog, ref: DatasetRef, subject: str) -> Iterator[dict[str, Any]]:
    """Yield everybody else's rows and duplicates, in order of their ids; their positions are the keys.

    Rows that a prior version has are left out: they stay set aside whoever is erased from this version.
    """
    kept = (row for row in _rows(catalog, ref, catalog.parts(ref)) if row["subject"] != subject)
    aside = (row for row in _set_aside_rows(catalog, ref, subject) if row["split"] != PRIOR)
    return heapq.merge(kept, aside, key=lambda row: row["id"])


def _set_aside_rows(catalog: DatasetCatalog, ref: DatasetRef, subject: str) -> Iterator[dict[str, Any]]:
    return (row for row in _rows(catalog, ref, catalog.duplicates(ref)) if row["subject"] != subject)


def _splits(index: pa.Table) -> dict[int, str]:
    """Return the split of each row that has one, by key: prior versions may have decided it."""
    rows = zip(index["key"].to_pylist(), index["split"].to_pylist(), strict=True)
    return {key: split for key, split in rows if split != DUPLICATE}


def _rows(catalog: DatasetCatalog, ref: DatasetRef, parts: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for table in catalog.read(ref, parts):
        yield from table.to_pylist()


def _fill(
    draft: Draft, rows: Iterator[dict[str, Any]], selection: Selection
) -> tuple[dict[str, int], dict[str, int]]:
    """Write the selection and the other rows as duplicates; count leaks and tags in the selection, by type."""
    splits = dict(zip(selection.keys.tolist(), selection.splits.tolist(), strict=True))
    found, pii = Counter[str](), Counter[str]()
    numbered = enumerate(rows)
    while batch := list(islice(numbered, _BATCH_ROWS)):
        kept = [row | {"split": splits[key]} for key, row in batch if key in splits]
        aside = [row | {"split": DUPLICATE} for key, row in batch if key not in splits and not _leaks(row)]
        draft.append(pa.Table.from_pylist(kept, schema=ROW_SCHEMA))
        draft.set_aside(pa.Table.from_pylist(aside, schema=ROW_SCHEMA))
        for row in kept:
            found.update(_leaks(row))
            tags = map(TAG.findall, row_texts(row))
            pii.update(tag[1:].partition("_")[0] for each in tags for tag in each)
    return dict(found), dict(pii)


def _leaks(row: Mapping[str, Any]) -> set[str]:
    return {leak for text in row_texts(row) for leak in leaks(text)}


def _recipe(recorded: Mapping[str, Any]) -> CurationRecipe:
    """Return the recipe of a manifest, without fields that only older or newer recipes have."""
    known = {each.name for each in fields(CurationRecipe)}
    options: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in recorded.items()
    }
    return CurationRecipe(**{name: value for name, value in options.items() if name in known})
