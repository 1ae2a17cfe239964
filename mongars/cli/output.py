"""Output of the command line: data on stdout, progress and messages on stderr."""

import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import Any, TextIO, cast

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

_live: Console | None = None
"""The console of the running stages. A message through another one would be erased with the bars."""

_indent: ContextVar[int | None] = ContextVar("indent", default=2)


def say(message: str) -> None:
    """Print a message for the user on stderr, unwrapped: a path in it can be copied."""
    (_live or _stderr()).print(message, markup=False, soft_wrap=True)


def emit(data: Any) -> None:
    """Write one JSON document to stdout."""
    sys.stdout.write(json.dumps(data, indent=_indent.get(), ensure_ascii=False, default=str) + "\n")


@contextmanager
def json_lines() -> Iterator[None]:
    """Within the block, `emit` writes a document on one line, for readers of a log."""
    token = _indent.set(None)
    try:
        yield
    finally:
        _indent.reset(token)


def write(text: str) -> None:
    """Write text to stdout and flush: a reply is read while it streams."""
    sys.stdout.write(text)
    sys.stdout.flush()


def _stderr() -> Console:
    # Made for each message, because NO_COLOR, TERM and COLUMNS are read then.
    return Console(stderr=True, highlight=False)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table to stdout."""
    shown = Table(*columns, title=title, title_justify="left")
    for row in rows:
        shown.add_row(*("" if cell is None else str(cell) for cell in row))
    Console(highlight=False).print(shown)


def facts(title: str, values: Mapping[str, object]) -> None:
    """Write a two-column table of names and values to stdout."""
    table(title, ("", ""), list(values.items()))


class Stages:
    """Progress of long work in stages. Methods may be called from any thread.

    Without a terminal a stage prints its label, and then a line for each percent of its work.
    """

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task: TaskID | None = None
        self._label = ""
        self._printed: object = None

    def stage(self, label: str) -> None:
        """Begin a stage, which ends the one before."""
        self.close()
        self._label, self._printed = label, None
        if self._bars.disable:
            say(label)
        self._task = self._bars.add_task(label, total=None, note="")

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        """Show `done` of `total` in the running stage, with a short note (a rate, a loss)."""
        if self._task is None:
            return
        self._bars.update(self._task, completed=done, total=total, note=note)
        if self._bars.disable and total and self._printed != (percent := 100 * done // total):
            self._printed = percent
            say(f"{self._label}: {done} of {total}" + (f", {note}" if note else ""))

    def warn(self, message: str) -> None:
        """Print a problem that did not end the work."""
        say(message)

    def close(self) -> None:
        """End the running stage."""
        if self._task is not None:
            task = self._bars.tasks[self._task]
            done = max(task.completed, 1)
            self._bars.update(self._task, completed=done, total=done)
            self._task = None


class _LibraryOutput(io.TextIOBase):
    """Sends what libraries print on stdout to stderr: stdout is for data."""

    # Ray prints this about our replicas, which ask for no CPU: a false alarm.
    HARMLESS = "PYTHON worker processes have been started"

    def write(self, text: str) -> int:
        """Print text on stderr unless it is harmless."""
        if self.HARMLESS not in text and text.strip():
            say(text.rstrip())
        return len(text)


@contextmanager
def stages() -> Iterator[Stages]:
    """Show a bar for each stage on stderr, with its rate, the elapsed and the remaining time.

    Within the block, `print` writes to stderr.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    console = _stderr()
    bars = Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=False)
    with redirect_stdout(cast(TextIO, _LibraryOutput())), bars, _messages_through(console):
        shown = Stages(bars)
        yield shown
        shown.close()


@contextmanager
def _messages_through(console: Console) -> Iterator[None]:
    global _live  # noqa: PLW0603 (messages come from any thread)
    _live, before = console, _live
    try:
        yield
    finally:
        _live = before
