"""`mongars redact`: a file of texts to the same file without personal data."""

from pathlib import Path
from typing import Annotated

import typer

from mongars.cli.options import Json
from mongars.cli.output import emit, facts, stages
from mongars.settings import load_settings
from mongars.workflows.redact import Mode, RedactOptions
from mongars.workflows.redact import redact as redact_file


def redact(
    source: Annotated[Path, typer.Option("--input", help='JSONL or .jsonl.gz, one `{"id", "text"}` a line.')],
    output: Annotated[
        Path, typer.Option(help="JSONL or .jsonl.gz to write; its spans are offsets in the input text.")
    ],
    mode: Annotated[Mode, typer.Option(help="What replaces personal data.")] = "pseudonym",
    known: Annotated[
        list[Path] | None,
        typer.Option(help="File of known values (names, e-mails, phones), one a line; repeatable."),
    ] = None,
    names: Annotated[bool, typer.Option(help="Also find person names that are not known.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")] = False,
    json: Json = False,
) -> None:
    """Replace the personal data in every text of a file. Unreadable lines are reported and left out."""
    options = RedactOptions(mode, known or (), names, force)
    with stages() as progress:
        done = redact_file(load_settings(), source, output, options, progress)
    summary = {"output": str(output), "texts": done.texts, "unreadable lines": done.bad_lines}
    found = dict(sorted(done.spans.items()))
    if json:
        emit(summary | {"spans": found})
    else:
        facts("Redacted", summary | {f"found: {kind}": count for kind, count in found.items()})
    raise typer.Exit(1 if done.bad_lines else 0)
