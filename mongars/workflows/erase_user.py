"""Erase a user from the datasets, and find what learned from their words."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mongars.records import AdapterRef
from mongars.settings import Settings
from mongars.workflows.train import list_runs
from mongars.workflows.wiring import open_catalog, open_registry

if TYPE_CHECKING:
    from mongars.curation.catalog.erasure import Erasure


@dataclass(frozen=True, slots=True)
class UserErasure:
    """An erasure from the datasets, and the adapters and unfinished runs (by key) that learned from the rows."""

    datasets: "Erasure"
    adapters: tuple[AdapterRef, ...]
    runs: tuple[str, ...]


def erase_user(settings: Settings, user: str, *, preview: bool = True) -> UserErasure:
    """Return what erasing a user's rows removes; remove them unless `preview`.

    Adapters and unfinished runs are only listed: an adapter cannot unlearn, so whether to revoke it is a decision.
    They stay listed after the rows are gone. Conversations are not touched: the repository erases them itself.
    Raises InputError without the secret that made the subject ids, DatasetRefusedError for a damaged version.
    """
    from mongars.curation.catalog.erasure import erase
    from mongars.curation.pii.pseudonyms import load_secret, subject_id
    from mongars.registry import trained_on

    subject = subject_id(load_secret(settings.pseudonym_key_file), user)
    catalog = open_catalog(settings)
    erasure = erase(catalog, subject, preview=preview)
    affected = {f"{ref.name}@{ref.version}" for ref in catalog.list() if subject in catalog.manifest(ref).subjects}
    runs = tuple(run.key for run in list_runs(settings) if run.dataset in affected)
    return UserErasure(erasure, trained_on(open_registry(settings), affected), runs)
