"""`mongars demo`: the whole loop on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from mongars.cli.options import Gpu, Json, Retries
from mongars.cli.output import emit, say, stages, table
from mongars.records import as_json
from mongars.settings import load_settings
from mongars.workflows.train import RETRIES


def demo(
    source: Annotated[
        Path | None, typer.Option("--input", help="JSONL(.gz) conversations; by default generated ones.")
    ] = None,
    limit: Annotated[int, typer.Option(min=50, help="Largest number of conversations.")] = 600,
    clients: Annotated[int, typer.Option(min=2, help="Clients that send requests to the server.")] = 8,
    gpu: Gpu = False,
    retries: Retries = RETRIES,
    json: Json = False,
) -> None:
    """Run the whole loop: curate, train, publish, swap under load. A second run changes nothing."""
    from mongars.demo.report import sections
    from mongars.demo.run import DemoOptions, run_demo

    settings = load_settings().resolved()
    with stages() as progress:
        report = run_demo(settings, DemoOptions(source, limit, clients, gpu, retries), progress)
    if json:
        emit(as_json(report))
    else:
        for title, rows in sections(report):
            table(title, ("", ""), rows)
    say(f"The report as JSON: {settings.home / 'demo' / 'report.json'}")
    raise typer.Exit(0 if report.healthy and not report.unreadable_lines else 1)
