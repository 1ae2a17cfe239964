"""`mongars runs`: what training runs left that did not end.

Owns the commands only.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mongars.cli.output import JSON_OPTION, emit, say, table
from mongars.errors import NotFoundError
from mongars.settings import load_settings

if TYPE_CHECKING:
    from mongars.training.runtime.unfinished_runs import UnfinishedRun

app = typer.Typer(help="Training runs that did not end: list them, delete what they keep.", no_args_is_help=True)

Folder = Annotated[Path | None, typer.Option(help="Where adapters are trained; MONGARS_HOME/training by default.")]


@app.command("list")
def list_runs(folder: Folder = None, json: Annotated[bool, JSON_OPTION] = False) -> None:
    """Show every run that left something: a checkpoint, or the text that a base is made from."""
    runs = _runs(folder)
    if json:
        emit([_row(run) for run in runs])
        return
    columns = ("key", "makes", "dataset", "step", "MiB", "last written", "state")
    table("Unfinished runs", columns, [tuple(_cells(run)) for run in runs])


@app.command()
def delete(
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="Keys as `mongars runs list` shows them.")],
    folder: Folder = None,
) -> None:
    """Delete what runs keep to go on: checkpoints, and the text of a base's run. Adapters and bases stay."""
    from mongars.training.runtime.unfinished_runs import delete_run

    known = {run.key: run for run in _runs(folder)}
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise NotFoundError(f"No unfinished run {', '.join(unknown)}.", remedy="See: mongars runs list")
    for key in dict.fromkeys(keys):
        delete_run(known[key])
        say(f"{key} is deleted; the same run would begin anew.")


def _runs(folder: Path | None) -> "list[UnfinishedRun]":
    from mongars.training.runtime.unfinished_runs import unfinished_runs

    settings = load_settings()
    return unfinished_runs(folder or settings.training_dir, settings.pretraining_dir)


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


def _cells(run: "UnfinishedRun") -> list[object]:
    step = "none kept" if run.step is None else f"{run.step} of {run.steps}"
    written = run.changed.astimezone().strftime("%Y-%m-%d %H:%M")
    ended = run.step is not None and run.step == run.steps  # of a base, whose text is kept
    state = "running" if run.alive else "ended" if ended else "stopped"
    return [run.key, run.makes, run.dataset or "", step, f"{run.bytes / 2**20:.1f}", written, state]
