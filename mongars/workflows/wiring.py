"""What the workflows share: the stores that the settings name, and how progress is reported.

Heavy packages are imported in the functions, because the command line imports the workflows for `--help`.
"""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mongars.curation.catalog.catalog import DatasetCatalog
    from mongars.memory.sql.persistence import PersistenceRepository
    from mongars.registry import AdapterRegistry, BaseSpec
    from mongars.settings import Settings

DEFAULT_NAME = "conversations"
"""The dataset, and the adapter, of a command that names none."""


class Progress(Protocol):
    """Where a workflow reports how far it is. Methods may be called from any thread."""

    def stage(self, label: str) -> None:
        """Begin a stage, which ends the one before."""
        ...

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        """Report progress within the stage."""
        ...

    def warn(self, message: str) -> None:
        """Report a problem that does not end the work."""
        ...


class Silent:
    """Progress that nobody watches."""

    def stage(self, label: str) -> None:
        """Ignore the stage."""

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        """Ignore the progress."""

    def warn(self, message: str) -> None:
        """Ignore the problem."""


SILENT = Silent()


def open_catalog(settings: "Settings") -> "DatasetCatalog":
    """Return the catalog of dataset versions."""
    from mongars.curation.catalog.catalog import DatasetCatalog

    return DatasetCatalog(settings.datasets_dir)


def open_registry(settings: "Settings") -> "AdapterRegistry":
    """Return the adapter registry in storage; a running server notices its changes."""
    from mongars.registry import AdapterRegistry

    return AdapterRegistry(settings.encoders_dir, settings.encoders_url)


def open_repository(settings: "Settings") -> "PersistenceRepository":
    """Return the repository of conversations, with its schema up to date."""
    from mongars.memory.sql.persistence import PersistenceRepository

    repository = PersistenceRepository(settings.database)
    repository.migrate()
    return repository


def base_spec(name: str) -> "BaseSpec":
    """Return the registry's view of a base model. Raises ModelNotFoundError when the base cannot be found."""
    from mongars.lm.base_files import base_folder
    from mongars.registry import BaseSpec

    return BaseSpec.of(base_folder(name))


def training_note(loss: float, tokens_per_second: float) -> str:
    """Return the note of a training step's progress."""
    return f"loss {loss:.3f}, {tokens_per_second:,.0f} tokens/s"
