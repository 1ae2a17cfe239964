"""The `mongars` command: assembles the groups and turns our errors into messages and exit codes.

Owns nothing else. Heavy libraries are imported inside the commands, so that `mongars --help` answers at once.
"""

import sys

import typer

from mongars import __version__
from mongars.cli import adapters, client, data, datasets, demo, embed, learn, redact, runs, serve
from mongars.cli.output import say
from mongars.errors import MongarsError

EPILOG = """Examples: `mongars demo` runs the whole loop; `mongars chat "Hello"` talks to `make serve`;
`mongars ingest chats.jsonl` reads conversations. Exit codes: 0 ok, 1 failed, 2 usage, 3 refused by the gate,
4 unreachable, 130 training stopped (the same command goes on)."""

app = typer.Typer(
    name="mongars",
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
    embed.embed,
    redact.redact,
):
    app.command()(command)
app.command("self-train")(learn.self_train)


@app.callback(invoke_without_command=True)
def _version(show: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if show:
        sys.stdout.write(f"{__version__}\n")
        raise typer.Exit


def main() -> None:
    """Run the command line; a user's mistake ends in a message, never in a stack trace."""
    try:
        app()
    except MongarsError as error:
        say(f"Error: {error}")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
