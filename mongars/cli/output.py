"""How the command line speaks: data on stdout, everything else on stderr.

Owns tables, JSON and progress. Must not know what the numbers mean.
"""

import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO, cast

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

# rich honours NO_COLOR and TERM=dumb by itself.
_stdout = Console(highlight=False)
_stderr = Console(stderr=True, highlight=False)


def say(message: str) -> None:
    """Tell the person at the terminal something; never data."""
    _stderr.print(message, markup=False)


def emit(data: Any) -> None:
    """Write one JSON document to stdout."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False, default=str) + "\n")


def write(text: str) -> None:
    """Write text to stdout as it is, at once (a reply while it streams)."""
    sys.stdout.write(text)
    sys.stdout.flush()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table to stdout."""
    shown = Table(*columns, title=title, title_justify="left")
    for row in rows:
        shown.add_row(*("" if cell is None else str(cell) for cell in row))
    _stdout.print(shown)


def facts(title: str, values: Mapping[str, object]) -> None:
    """Write a two-column table of names and values to stdout."""
    table(title, ("", ""), list(values.items()))


class Stages:
    """Progress of long work in stages. Safe to call from any thread; without a terminal, a line a stage."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def stage(self, label: str) -> None:
        """Begin a stage; the one before is over."""
        self.close()
        if not _stderr.is_terminal:
            say(label)
        self._task = self._bars.add_task(label, total=None, note="")

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        """Show `done` of `total` in the running stage, with a short note (a rate, a loss)."""
        if self._task is not None:
            self._bars.update(self._task, completed=done, total=total, note=note)

    def warn(self, message: str) -> None:
        """Tell of something that did not end the work."""
        say(message)

    def close(self) -> None:
        """End the running stage."""
        if self._task is not None:
            task = self._bars.tasks[self._task]
            done = max(task.completed, 1)
            self._bars.update(self._task, completed=done, total=done)


class _LibraryOutput(io.TextIOBase):
    """What libraries print to stdout goes to stderr: stdout is for data."""

    # Ray counts idle and waiting processes here; our replicas ask for no CPU, so the count says nothing.
    HARMLESS = "PYTHON worker processes have been started"

    def write(self, text: str) -> int:
        """Pass text on, but for what would only alarm."""
        if self.HARMLESS not in text and text.strip():
            say(text.rstrip())
        return len(text)


@contextmanager
def stages() -> Iterator[Stages]:
    """Show a bar for each stage on stderr, with its rate, the time taken and the time left.

    Within it, `print` does not reach stdout.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    bars = Progress(*columns, console=_stderr, disable=not _stderr.is_terminal, redirect_stdout=False)
    with redirect_stdout(cast(TextIO, _LibraryOutput())), bars:
        shown = Stages(bars)
        yield shown
        shown.close()


@contextmanager
def progress(label: str) -> Iterator[Stages]:
    """Show one stage."""
    with stages() as shown:
        shown.stage(label)
        yield shown


JSON_OPTION = typer.Option("--json", help="Print JSON on stdout in place of tables.")
