"""The `mongars` command, and the same commands as Ray jobs.

Heavy libraries are imported in the commands, so that `mongars --help` is fast.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from mongars import __version__
from mongars.cli import adapters, client, data, datasets, demo, embed, learn, pretrain, redact, runs, serve
from mongars.cli.output import json_lines, say
from mongars.errors import MongarsError

EPILOG = """Examples: `mongars demo` runs the whole loop; `mongars chat "Hello"` talks to `make serve`;
`mongars ingest chats.jsonl` saves conversations. Exit codes: 0 done, 1 failed or incomplete, 2 usage, 3 refused by
the gate, 4 unreachable, 130 training stopped (the same command resumes it)."""


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> object:
        """Run the command; an error of ours ends in its message and exit code, never in a stack trace."""
        try:
            return super().invoke(ctx)
        except MongarsError as error:
            say(f"Error: {error}")
            raise typer.Exit(error.exit_code) from error


app = typer.Typer(
    name="mongars",
    cls=_Commands,
    help="A self-hosted, privacy-first assistant that improves itself on your own machines.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(adapters.app, name="adapters")
app.add_typer(datasets.app, name="datasets")
app.add_typer(runs.app, name="runs")
app.add_typer(client.memory, name="memory")
app.add_typer(serve.keys, name="keys")
for command in (
    demo.demo,
    serve.serve,
    serve.check,
    client.status,
    client.chat,
    data.ingest,
    data.curate,
    learn.train,
    learn.self_train,
    embed.embed,
    redact.redact,
    pretrain.pretrain,
):
    app.command()(command)
app.command(hidden=True)(pretrain.corpus)
app.command("train-name-tagger", hidden=True)(pretrain.name_tagger)


@app.callback(invoke_without_command=True)
def _version(show: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if show:
        sys.stdout.write(f"{__version__}\n")
        raise typer.Exit


def run_job(command: Sequence[str], *, ray: bool = False) -> None:
    """Run a command with this process's arguments as a Ray job: one line of JSON on stdout.

    With `ray` it uses the Ray in RAY_ADDRESS, which Ray sets for its jobs, or else a local one. A bare
    `ray.init()` would look for the last cluster started on this machine, and try for minutes if that one is gone.
    """
    address = os.environ.get("RAY_ADDRESS", "local")
    ray_options = ["--ray", address] if ray and address != "local" else []
    with json_lines():
        app([*command, "--json", *ray_options, *sys.argv[1:]], prog_name="mongars")


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
