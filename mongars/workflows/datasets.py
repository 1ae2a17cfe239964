"""List, verify, compare and prune dataset versions."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mongars.records import DatasetRef, now
from mongars.settings import Settings
from mongars.workflows.wiring import open_catalog

if TYPE_CHECKING:
    from mongars.curation.catalog.diff import Difference


def list_datasets(settings: Settings) -> list[DatasetRef]:
    """Return every version of every dataset."""
    return list(open_catalog(settings).list())


def read_manifest(settings: Settings, name: str, version: str = "latest") -> dict[str, Any]:
    """Return the manifest of a version. Raises DatasetNotFoundError."""
    catalog = open_catalog(settings)
    manifest: dict[str, Any] = json.loads(catalog.manifest_path(catalog.get(name, version)).read_text("utf-8"))
    return manifest


def verify(settings: Settings, name: str, version: str = "latest") -> DatasetRef:
    """Recompute the digest of a version from its rows. Raises DatasetRefusedError when it differs."""
    catalog = open_catalog(settings)
    ref = catalog.get(name, version)
    catalog.verify(ref)
    return ref


def diff(settings: Settings, name: str, one: str, other: str = "latest") -> "Difference":
    """Compare the rows and the recipes of two versions of a dataset."""
    from mongars.curation.catalog.diff import diff as compare

    catalog = open_catalog(settings)
    return compare(catalog, catalog.get(name, one), catalog.get(name, other))


def prune(
    settings: Settings, keep: int, *, older_than_days: int = 0, preview: bool = True
) -> tuple[DatasetRef, ...]:
    """Return all but the `keep` newest versions of each dataset; remove their rows unless `preview`."""
    from mongars.curation.catalog import retention

    choose = retention.prunable if preview else retention.prune
    return tuple(choose(open_catalog(settings), keep=keep, now=now(), older_than_days=older_than_days))


def read_rows(settings: Settings, dataset: DatasetRef) -> Iterator[dict[str, Any]]:
    """Yield the rows of a version."""
    import pyarrow.parquet as pq

    for part in open_catalog(settings).parts(dataset):
        yield from pq.read_table(part).to_pylist()
