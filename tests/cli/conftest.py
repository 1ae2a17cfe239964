"""The command line as a user runs it: a process of its own in a home of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def mongars(tmp_path: Path) -> Run:
    """Return a function that runs `mongars ...` in an empty home and returns its output and exit code."""
    program = Path(sys.executable).with_name("mongars")

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MONGARS_")}
        places = {"MONGARS_HOME": str(tmp_path / "var"), "MONGARS_MODELS_DIR": str(tmp_path / "models")}
        return subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=kept | {"NO_COLOR": "1", "COLUMNS": "120"} | places | variables,
        )

    return run
