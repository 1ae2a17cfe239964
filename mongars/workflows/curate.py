"""Curate conversations into a dataset version."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mongars.records import DatasetRef
from mongars.settings import Settings
from mongars.workflows.wiring import DEFAULT_NAME, SILENT, Progress, open_catalog, open_repository

if TYPE_CHECKING:
    from mongars.curation.recipe import CurationReport
    from mongars.curation.sources import ConversationSource, RepositorySource


def curate(
    settings: Settings,
    files: Sequence[Path] = (),
    *,
    name: str = DEFAULT_NAME,
    exclude: Sequence[str] = (),
    test_share: float | None = None,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> "CurationReport":
    """Curate files, or without any the conversations that may be trained on, on the Ray at `ray` or a local one.

    `exclude` names versions, NAME or NAME@VERSION, whose rows and near copies are left out. Raises
    DatasetNotFoundError and DatasetRefusedError for these, InputError for a file that cannot be read.
    """
    from mongars.curation.sources import FileSource
    from mongars.serving.cluster import ray_session

    versions = prior_versions(settings, exclude)
    source = FileSource(files) if files else consented_conversations(settings)
    source.check()  # before Ray starts, which takes seconds
    progress.stage("Curating")
    with ray_session(settings, ray):
        report = curate_source(
            settings, source, name=name, exclude=versions, test_share=test_share, progress=progress
        )
    for bad in report.bad_lines:
        progress.warn(f"{bad.path}:{bad.line}: {bad.reason}")
    dataset = report.dataset
    if dataset.state != "ready":
        progress.warn(f"{dataset.name} {dataset.version} is {dataset.state}: {dict(report.leaks)}")
    return report


def curate_source(
    settings: Settings,
    source: "ConversationSource",
    *,
    name: str = DEFAULT_NAME,
    exclude: Sequence[DatasetRef] = (),
    test_share: float | None = None,
    progress: Progress = SILENT,
) -> "CurationReport":
    """Curate conversations with the recipe of the settings. Ray must be running in this process."""
    from mongars.curation.pii.pseudonyms import load_or_create_secret
    from mongars.curation.pipeline import curate as run_pipeline
    from mongars.curation.recipe import CurationRecipe

    recipe = CurationRecipe(
        languages=settings.languages,
        retention_days=settings.retention_days,
        person_names=settings.person_names,
        test_share=CurationRecipe().test_share if test_share is None else test_share,
    )
    return run_pipeline(
        source,
        recipe,
        open_catalog(settings),
        secret=load_or_create_secret(settings.pseudonym_key_file),
        name=name,
        on_progress=progress.update,
        exclude=exclude,
    )


def consented_conversations(settings: Settings) -> "RepositorySource":
    """Return the consented conversations of the repository, for `curate_source`."""
    from mongars.curation.sources import RepositorySource

    _remove_leftover_text(settings.home / "staging")
    return RepositorySource(open_repository(settings))


def _remove_leftover_text(staging: Path) -> None:
    # Earlier versions wrote unredacted text here, which stayed when they were killed.
    if staging.is_dir():
        for file in staging.glob("*consented.jsonl*"):
            file.unlink(missing_ok=True)
        if not any(staging.iterdir()):
            staging.rmdir()


def prior_versions(settings: Settings, names: Sequence[str]) -> list[DatasetRef]:
    """Return the ready versions named NAME@VERSION, or NAME for the latest.

    Raises DatasetNotFoundError, and DatasetRefusedError for a version that is not ready.
    """
    catalog, found = open_catalog(settings), list[DatasetRef]()
    for each in names:
        name, _, version = each.partition("@")
        found.append(catalog.get(name, version or "latest"))
        catalog.require_ready(found[-1])
    return found
