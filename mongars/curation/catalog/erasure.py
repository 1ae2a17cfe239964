"""Erasing a person from the datasets: what would go, and then that it is gone and stays gone.

Owns the order of the steps. Must not know Ray, adapters or conversations that were not curated.

A dataset whose latest version holds the person gets a successor: what curating the same sources without that
person would have given, because duplicates were set aside and are chosen from again. Then every version that held
the person loses its rows. A killed erasure is finished by the same call: the tombstone is written first.
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
from mongars.curation.dedup.splits import DUPLICATE, EARLIER
from mongars.curation.filters.quality import DropReason
from mongars.curation.pii.leak_check import leaks
from mongars.curation.pii.pseudonyms import TAG
from mongars.curation.recipe import CurationRecipe
from mongars.records import DatasetRef

_BATCH_ROWS = 1_024


@dataclass(frozen=True, slots=True)
class Successor:
    """What takes the place of a dataset's latest version; `dataset` is None in a preview.

    `removed` are the person's rows, `readmitted` those that had been dropped as duplicates, `rows` what is left.
    """

    of: DatasetRef
    dataset: DatasetRef | None
    removed: int
    readmitted: int
    rows: int


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erasure takes away, or took: `versions` hold the person's rows, or held them.

    `dependents` left rows out because `versions` held them, or rows near them. Where it was the person's row, what
    was left out for it now stands nowhere: their sources have to be curated again to take it in (decision 019).
    """

    subject: str
    preview: bool
    versions: tuple[DatasetRef, ...]
    successors: tuple[Successor, ...]
    dependents: tuple[DatasetRef, ...] = ()


def erase(catalog: DatasetCatalog, subject: str, *, preview: bool = True) -> Erasure:
    """Show what erasing a subject comes to, or with `preview=False` do it.

    Afterwards no version has the subject's rows, and none can be published with them. Raises
    DatasetRefusedError for a damaged version, before anything of it is removed.
    """
    if not preview:
        catalog.tombstones.add(subject)
    held = catalog.holding(subject)
    dependents = _dependents(catalog, held)
    successors = tuple(
        _succeed(catalog, ref, subject, preview=preview) for ref in held if ref == catalog.get(ref.name)
    )
    if not preview:
        for ref in held:
            catalog.remove_rows(ref)
    return Erasure(subject, preview, held, successors, dependents)


def _dependents(catalog: DatasetCatalog, held: Sequence[DatasetRef]) -> tuple[DatasetRef, ...]:
    """Return the ready versions with rows that were left out for what the versions `held` have."""
    names = {f"{ref.name}@{ref.version}" for ref in held}
    others = ((ref, catalog.manifest(ref)) for ref in catalog.list() if ref.state == "ready")
    return tuple(
        ref
        for ref, manifest in others
        if names.intersection(manifest.against) and manifest.dropped.get(DropReason.IN_EARLIER_VERSION)
    )


def _succeed(catalog: DatasetCatalog, ref: DatasetRef, subject: str, *, preview: bool) -> Successor:
    """Choose among the rows of the others again and publish what stays, unless it is a preview."""
    catalog.verify(ref)
    manifest = catalog.manifest(ref)
    index = index_of(enumerate(_others(catalog, ref, subject)))
    selection = select(
        index,
        _recipe(manifest.recipe),
        lambda keys: shingles_of(enumerate(_others(catalog, ref, subject)), keys),
        pins=_splits(index) if manifest.against else {},
    )
    in_earlier = [row for row in _set_aside_rows(catalog, ref, subject) if row["split"] == EARLIER]
    before = {row["id"] for row in _rows(catalog, ref, catalog.parts(ref)) if row["subject"] != subject}
    after = set(index["id"].take(selection.keys).to_pylist())
    removed = manifest.rows - len(before)
    dataset = None
    if not preview:
        with catalog.open_draft(ref.name) as draft:
            found, pii = _fill(draft, _others(catalog, ref, subject), selection)
            earlier: dict[str, int] = {DropReason.IN_EARLIER_VERSION: len(in_earlier)} if in_earlier else {}
            draft.set_aside(pa.Table.from_pylist(in_earlier, schema=ROW_SCHEMA))
            provenance = Provenance(
                recipe=manifest.recipe,
                recipe_hash=manifest.recipe_hash,
                parents=(ref.digest,),
                against=tuple(manifest.against),
                rows_read=index.num_rows + len(in_earlier) + removed,
                dropped={**selection.dropped, **earlier, DropReason.ERASED: removed},
                pii=pii,
                leaks=found,
            )
            dataset, _ = catalog.publish(draft, provenance)
    return Successor(ref, dataset, removed, len(after - before), len(selection.keys))


def _others(catalog: DatasetCatalog, ref: DatasetRef, subject: str) -> Iterator[dict[str, Any]]:
    """Yield everybody else's rows and duplicates, in order of their ids: their places are the keys.

    What an earlier version holds is not among them: it stays set aside, whoever is erased from this version.
    """
    kept = (row for row in _rows(catalog, ref, catalog.parts(ref)) if row["subject"] != subject)
    aside = (row for row in _set_aside_rows(catalog, ref, subject) if row["split"] != EARLIER)
    return heapq.merge(kept, aside, key=lambda row: row["id"])


def _set_aside_rows(catalog: DatasetCatalog, ref: DatasetRef, subject: str) -> Iterator[dict[str, Any]]:
    return (row for row in _rows(catalog, ref, catalog.duplicates(ref)) if row["subject"] != subject)


def _splits(index: pa.Table) -> dict[int, str]:
    """Return the split of each row that has one, by key: earlier versions gave it, and are not asked again."""
    rows = zip(index["key"].to_pylist(), index["split"].to_pylist(), strict=True)
    return {key: split for key, split in rows if split != DUPLICATE}


def _rows(catalog: DatasetCatalog, ref: DatasetRef, parts: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for table in catalog.read(ref, parts):
        yield from table.to_pylist()


def _fill(
    draft: Draft, rows: Iterator[dict[str, Any]], selection: Selection
) -> tuple[dict[str, int], dict[str, int]]:
    """Write what stays, and what is set aside still; return rows with leaks and tags, by type, of what stays."""
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
    """Return the recipe of a manifest; what an older or newer one has besides does not bear on the selection."""
    known = {each.name for each in fields(CurationRecipe)}
    knobs: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in recorded.items()
    }
    return CurationRecipe(**{name: value for name, value in knobs.items() if name in known})
