"""`mongars runs`: the training runs that did not end, and what they left on disk."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mongars.cli.options import Json
from mongars.cli.output import emit, say, table
from mongars.settings import load_settings
from mongars.workflows import train

if TYPE_CHECKING:
    from mongars.workflows.train import UnfinishedRun

app = typer.Typer(help="List unfinished training runs, and delete their files.", no_args_is_help=True)

Folder = Annotated[
    Path | None, typer.Option(help="Folder of the training runs; MONGARS_HOME/training by default.")
]


@app.command("list")
def list_runs(folder: Folder = None, json: Json = False) -> None:
    """Show unfinished training runs, and pretraining runs that still hold their text."""
    runs = train.list_runs(load_settings(), folder)
    if json:
        emit([_row(run) for run in runs])
        return
    columns = ("key", "makes", "dataset", "step", "MiB", "last written", "state")
    table("Unfinished runs", columns, [_cells(run) for run in runs])


@app.command()
def delete(
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="Keys as `mongars runs list` shows them.")],
    folder: Folder = None,
) -> None:
    """Delete checkpoints, and the text of a base's run. Finished adapters and bases stay."""
    train.delete_runs(load_settings(), keys, folder)
    for key in dict.fromkeys(keys):
        say(f"{key} is deleted; the same run would start at step 0.")


def _row(run: "UnfinishedRun") -> dict[str, Any]:
    return {
        "key": run.key,
        "makes": run.makes,
        "dataset": run.dataset,
        "step": run.step,
        "steps": run.steps,
        "bytes": run.bytes,
        "changed": run.changed.isoformat(timespec="seconds"),
        "alive": run.alive,
        "left": [str(path) for path in run.left],
    }


def _cells(run: "UnfinishedRun") -> tuple[object, ...]:
    step = "no checkpoint" if run.step is None else f"{run.step} of {run.steps}"
    written = run.changed.astimezone().strftime("%Y-%m-%d %H:%M")
    ended = run.step is not None and run.step == run.steps  # a base's run, which keeps its text
    state = "running" if run.alive else "ended" if ended else "stopped"
    return run.key, run.makes, run.dataset or "", step, f"{run.bytes / 2**20:.1f}", written, state
