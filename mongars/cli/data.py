"""`mongars ingest` and `curate`: conversations into the repository, and from there into dataset versions.

Owns the commands only.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mongars.cli.output import JSON_OPTION, emit, facts, progress, say
from mongars.records import as_json
from mongars.settings import load_settings

if TYPE_CHECKING:
    from mongars.formats.jsonl import BadLine

Json = Annotated[bool, JSON_OPTION]
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
    from mongars.errors import InputError, RefusedError
    from mongars.formats.jsonl import BadLine, read_conversations
    from mongars.memory.sql.persistence import PersistenceRepository

    settings = load_settings()
    repository = PersistenceRepository(settings.database)
    repository.migrate()
    new = known = refused = 0
    bad: list[BadLine] = []
    with progress("Reading conversations") as bar:
        for path in files:
            for item in read_conversations(path):
                if isinstance(item, BadLine):
                    bad.append(item)
                    continue
                try:
                    if repository.save_conversation(item):
                        new += 1
                    else:
                        known += 1
                except (InputError, RefusedError) as error:
                    refused += 1
                    say(f"{path}: conversation {item.id!r}: {error}")
                bar.update(new + known + refused)
    unreadable = report_bad_lines(bad)
    counts = {"new": new, "already there": known, "unreadable lines": unreadable, "refused": refused}
    emit(counts) if json else facts("Conversations", counts)
    raise typer.Exit(1 if unreadable or refused else 0)


def curate(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="JSONL, .jsonl.gz or .parquet; without them, what is kept here and consented."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the dataset.")] = DEFAULT_DATASET,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[@VERSION]", help="Leave out what this version holds; repeat it."),
    ] = None,
    ray: Annotated[str | None, typer.Option(help="Ray address, or `auto`; a local Ray by default.")] = None,
    json: Json = False,
) -> None:
    """Make a dataset version: personal data, junk and duplicates go out."""
    from mongars.curation.sources import FileSource
    from mongars.serving.cluster import ray_session
    from mongars.workflows.assembly import consented_conversations, curate_source, prior_versions

    settings = load_settings().resolved()
    earlier = prior_versions(settings, against or ())
    source = FileSource(files) if files else consented_conversations(settings)
    source.check()  # before Ray starts, which takes seconds
    with ray_session(settings, ray), progress("Curating") as bar:
        report = curate_source(settings, source, name=name, on_progress=bar.update, exclude=earlier)
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
