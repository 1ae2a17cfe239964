"""`mongars ingest` and `curate`: conversations into the repository, and into dataset versions."""

from pathlib import Path
from typing import Annotated

import typer

from mongars.cli.options import Json, Ray
from mongars.cli.output import emit, facts, stages
from mongars.records import as_json
from mongars.settings import load_settings
from mongars.workflows.wiring import DEFAULT_NAME


def ingest(
    files: Annotated[list[Path], typer.Argument(help="JSONL or .jsonl.gz, one conversation a line.")],
    json: Json = False,
) -> None:
    """Save conversations in the repository. Repeating the command adds nothing.

    A conversation that has grown is extended, and one with `"consent": false` is not trained on any more.
    """
    from mongars.workflows.ingest import ingest as save
    from mongars.workflows.ingest import read_files

    with stages() as progress:
        progress.stage("Reading conversations")
        done = save(load_settings(), read_files(files), progress)
    counts = {
        "new": done.new,
        "extended": done.extended,
        "already there": done.known,
        "consent withdrawn": done.withdrawn,
        "unreadable lines": done.bad_lines,
        "refused": done.refused,
    }
    emit(counts) if json else facts("Conversations", counts)
    raise typer.Exit(1 if done.problems else 0)


def curate(
    *,
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="JSONL, .jsonl.gz or .parquet; by default the saved conversations with consent."),
    ] = None,
    inputs: Annotated[list[Path] | None, typer.Option("--input", hidden=True)] = None,
    input_required: Annotated[bool, typer.Option("--input-required", hidden=True)] = False,
    name: Annotated[str, typer.Option(help="Name of the dataset.")] = DEFAULT_NAME,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude-version",
            metavar="NAME[@VERSION]",
            help="Leave out the rows of this version and their near copies; repeatable.",
        ),
    ] = None,
    against: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
    test_share: Annotated[
        float | None, typer.Option(help="Share of the subjects for the test split; by default 0.1.")
    ] = None,
    ray: Ray = None,
    json: Json = False,
) -> None:
    """Make a dataset version: personal data is replaced, junk and duplicates are dropped."""
    from mongars.workflows.curate import curate as curate_version

    sources = [*(files or ()), *(inputs or ())]
    if input_required and not sources:
        raise typer.BadParameter("Name a file of conversations.", param_hint="--input")
    with stages() as progress:
        report = curate_version(
            load_settings().resolved(),
            sources,
            name=name,
            exclude=[*(exclude or ()), *(against or ())],
            test_share=test_share,
            ray=ray,
            progress=progress,
        )
    if json:
        emit(as_json(report))
    else:
        facts(
            f"{report.dataset.name} {report.dataset.version}{' (unchanged)' if report.reused else ''}",
            {"rows read": report.rows_read, "rows kept": report.rows_kept}
            | {f"dropped: {reason}": count for reason, count in sorted(report.dropped.items())}
            | {f"personal data: {kind}": count for kind, count in sorted(report.pii.items())},
        )
    raise typer.Exit(1 if report.bad_lines or report.dataset.state != "ready" else 0)
