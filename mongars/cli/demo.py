"""`mongars demo`: the whole loop on this machine, with progress on stderr and a table at the end.

Owns the command only.
"""

from pathlib import Path
from typing import Annotated

import typer

from mongars.cli.output import JSON_OPTION, emit, say, stages, table
from mongars.records import as_json
from mongars.settings import load_settings


def demo(
    source: Annotated[
        Path | None, typer.Option("--input", help="JSONL(.gz) conversations; generated ones by default.")
    ] = None,
    limit: Annotated[int, typer.Option(min=50, help="Take at most so many conversations.")] = 600,
    clients: Annotated[int, typer.Option(min=2, help="Clients that keep the server busy.")] = 8,
    json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Run the whole loop: curate, train, publish, swap under load; a second run changes nothing."""
    from mongars.demo.report import sections
    from mongars.demo.run import DemoOptions, run_demo

    settings = load_settings().resolved()
    with stages() as show:
        report = run_demo(settings, DemoOptions(source, limit, clients), show)
    if json:
        emit(as_json(report))
    else:
        for title, rows in sections(report):
            table(title, ("", ""), rows)
    say(f"The same as JSON: {settings.home / 'demo' / 'report.json'}")
    raise typer.Exit(0 if report.healthy and not report.unreadable_lines else 1)
