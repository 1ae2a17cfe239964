"""What a person's erasure comes to in datasets and adapters.

Owns the way from a user to both. Must not know conversations, which the repository erases by itself.
"""

from dataclasses import dataclass

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.curation.catalog.erasure import Erasure, erase
from mongars.curation.pii.pseudonyms import load_secret, subject_id
from mongars.records import AdapterRef
from mongars.registry.lookup import trained_on
from mongars.registry.registry import AdapterRegistry
from mongars.settings import Settings
from mongars.training.runtime.unfinished_runs import unfinished_runs


@dataclass(frozen=True, slots=True)
class UserErasure:
    """The datasets' part of an erasure, and what learned from what is, or was, removed.

    `runs` are the keys of training runs that did not end; `mongars runs` knows them.
    """

    datasets: Erasure
    adapters: tuple[AdapterRef, ...]
    runs: tuple[str, ...]


def erase_user(settings: Settings, user: str, *, preview: bool = True) -> UserErasure:
    """Show what erasing a user's rows comes to, or with `preview=False` do it.

    Adapters are only listed: what one learned cannot be taken out of it, so revoking it is a decision. Those that
    learned from a version erased earlier are listed again; and so are unfinished runs in the home. Raises
    InputError without the secret that made the subject ids, DatasetRefusedError for a damaged version.
    """
    subject = subject_id(load_secret(settings.pseudonym_key_file), user)
    catalog = DatasetCatalog(settings.datasets_dir)
    erasure = erase(catalog, subject, preview=preview)
    held = {f"{ref.name}@{ref.version}" for ref in catalog.list() if subject in catalog.manifest(ref).subjects}
    registry = AdapterRegistry(settings.encoders_dir, settings.encoders_url)
    runs = unfinished_runs(settings.training_dir, settings.pretraining_dir)
    return UserErasure(erasure, trained_on(registry, held), tuple(run.key for run in runs if run.dataset in held))
