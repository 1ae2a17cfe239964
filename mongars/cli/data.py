"""`mongars ingest`, `curate` and `datasets`: conversations into the repository, and from there into versions.

Owns the commands only.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mongars.cli.output import JSON_OPTION, emit, facts, progress, say, table
from mongars.records import as_json
from mongars.settings import Settings, load_settings

if TYPE_CHECKING:
    from mongars.curation.catalog import DatasetCatalog
    from mongars.sources import BadLine

datasets = typer.Typer(help="Look at dataset versions.", no_args_is_help=True)

Json = Annotated[bool, JSON_OPTION]
Name = Annotated[str, typer.Argument(help="Name of the dataset.")]
Version = Annotated[str, typer.Option(help="A version such as `v2`, or `latest`.")]
DEFAULT_DATASET = "conversations"


def report_bad_line(bad: "BadLine") -> None:
    """Name an unreadable line on stderr."""
    say(f"{bad.path}:{bad.line}: {bad.reason}")


def report_bad_lines(bad_lines: "Iterable[BadLine]") -> int:
    """Name each unreadable line on stderr; return how many there were."""
    count = 0
    for bad in bad_lines:
        report_bad_line(bad)
        count += 1
    return count


def ingest(
    files: Annotated[list[Path], typer.Argument(help="JSONL or .jsonl.gz, one conversation a line.")],
    json: Json = False,
) -> None:
    """Read conversations into the repository; a second run adds nothing."""
    from mongars.memory.persistence import PersistenceRepository
    from mongars.sources import BadLine, read_conversations

    settings = load_settings()
    repository = PersistenceRepository(settings.database)
    repository.create_schema()
    new = known = 0
    bad: list[BadLine] = []
    with progress("Reading conversations") as bar:
        for path in files:
            for item in read_conversations(path):
                if isinstance(item, BadLine):
                    bad.append(item)
                elif repository.save_conversation(item):
                    new += 1
                else:
                    known += 1
                bar.update(new + known)
    unreadable = report_bad_lines(bad)
    counts = {"new": new, "already there": known, "unreadable lines": unreadable}
    emit(counts) if json else facts("Conversations", counts)
    raise typer.Exit(1 if unreadable else 0)


def curate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="JSONL files; without them, the consented conversations kept here.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the dataset.")] = DEFAULT_DATASET,
    ray: Annotated[str | None, typer.Option(help="Ray address, or `auto`; a local Ray by default.")] = None,
    json: Json = False,
) -> None:
    """Make a dataset version: personal data, junk and duplicates go out."""
    from mongars.evolution.wiring import curate_files, harvest_to_file
    from mongars.serving.cluster import ray_session

    settings = load_settings().resolved()
    harvested = None if files else harvest_to_file(settings)
    sources = [harvested] if harvested else [path.resolve() for path in files or ()]
    try:
        with ray_session(settings, ray), progress("Curating") as bar:
            report = curate_files(settings, sources, name=name, on_progress=bar.update)
    finally:
        if harvested:
            harvested.unlink()  # personal text as it was said is kept in the repository alone
    unreadable = report_bad_lines(report.bad_lines)
    sound = report.dataset.state == "ready"
    if not sound:
        say(f"{report.dataset.name} {report.dataset.version} is {report.dataset.state}: {dict(report.leaks)}")
    if json:
        emit(as_json(report))
    else:
        facts(
            f"{report.dataset.name} {report.dataset.version}{' (as it was)' if report.reused else ''}",
            {"rows read": report.rows_read, "rows kept": report.rows_kept}
            | {f"dropped: {reason}": count for reason, count in sorted(report.dropped.items())}
            | {f"personal data: {kind}": count for kind, count in sorted(report.pii.items())},
        )
    raise typer.Exit(1 if unreadable or not sound else 0)


def _catalog(settings: Settings) -> "DatasetCatalog":
    from mongars.curation.catalog import DatasetCatalog

    return DatasetCatalog(settings.datasets_dir)


@datasets.command("list")
def list_datasets(json: Json = False) -> None:
    """Show every dataset version."""
    found = _catalog(load_settings()).list()
    if json:
        emit([as_json(ref) for ref in found])
        return
    rows = [(ref.name, ref.version, ref.state, ref.rows, ref.digest[:12]) for ref in found]
    table("Datasets", ("name", "version", "state", "rows", "digest"), rows)


@datasets.command()
def show(name: Name, version: Version = "latest") -> None:
    """Print the manifest of one version as JSON."""
    import json as jsonlib

    catalog = _catalog(load_settings())
    emit(jsonlib.loads(catalog.manifest_path(catalog.get(name, version)).read_text()))


@datasets.command()
def verify(name: Name, version: Version = "latest") -> None:
    """Recompute the digest of one version from its rows."""
    catalog = _catalog(load_settings())
    ref = catalog.get(name, version)
    catalog.verify(ref)
    say(f"{ref.name} {ref.version}: {ref.rows} rows, digest {ref.digest[:12]} is right.")
