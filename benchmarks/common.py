"""What the benchmarks share: one way to end, to miss a file and to print a table.

Results go to stdout, progress and errors to stderr. Must not know what is measured.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mongars.cli.output import Stages, emit, stages, write
from mongars.errors import InputError, MongarsError


def run(measure: Callable[[Stages], dict[str, Any]], show: Callable[[dict[str, Any]], str] | None) -> int:
    """Measure, print the result (as JSON where there is no `show`), and return the exit code of `mongars`."""
    try:
        with stages() as progress:
            result = measure(progress)
    except MongarsError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    if show is None:
        emit(result)
    else:
        write(show(result))
    return 0


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; a cell's line breaks and bars are written so that they stay in it."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def existing(path: Path) -> Path:
    """Return a file's path. Raises InputError when it is not there."""
    if not path.is_file():
        raise InputError(
            f"There is no file {path}.", remedy="Give the path of the data; see benchmarks/README.md."
        )
    return path


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", "<br>")
