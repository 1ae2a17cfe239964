"""How long dataset versions keep their rows.

Every version keeps its manifest, which says what an adapter learned from and whose words those were. Only the
newest versions of each dataset keep their rows.
"""

from datetime import datetime, timedelta
from itertools import groupby

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.errors import InputError
from mongars.records import DatasetRef


def prunable(
    catalog: DatasetCatalog, *, keep: int, now: datetime, older_than_days: int = 0
) -> tuple[DatasetRef, ...]:
    """Return the versions with rows that are not among the newest `keep` of their dataset and are old enough.

    The order is by name, then from old to new. Includes versions whose removal was killed. Raises InputError for a
    number below zero.
    """
    if keep < 0 or older_than_days < 0:
        raise InputError("A number of versions or days is below zero.", remedy="Give 0 or more.")
    latest = now - timedelta(days=older_than_days)
    chosen = list[DatasetRef]()
    for _, versions in groupby(catalog.list(), key=lambda ref: ref.name):
        with_rows = [ref for ref in versions if catalog.has_rows(ref)]
        whole = [ref for ref in with_rows if ref.state != "erased"]
        newest = whole[max(0, len(whole) - keep) :]
        chosen += (ref for ref in with_rows if ref not in newest and catalog.manifest(ref).created_at <= latest)
    return tuple(chosen)


def prune(
    catalog: DatasetCatalog, *, keep: int, now: datetime, older_than_days: int = 0
) -> tuple[DatasetRef, ...]:
    """Remove the rows of all `prunable` versions and return these. Safe to repeat after a kill."""
    found = prunable(catalog, keep=keep, now=now, older_than_days=older_than_days)
    for ref in found:
        catalog.remove_rows(ref, because="it was pruned, as newer versions stay")
    return found
