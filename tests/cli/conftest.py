"""The command line in this process, in a home of its own."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mongars.cli.main import app

Run = Callable[..., Result]


@pytest.fixture
def mongars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return mongars(*arguments, **variables) -> Result, which runs a command in an empty home.

    An exception that is not an error of ours fails the test.
    """
    for name in [name for name in os.environ if name.startswith("MONGARS_")]:
        monkeypatch.delenv(name)
    places = {"MONGARS_HOME": str(tmp_path / "var"), "MONGARS_MODELS_DIR": str(tmp_path / "models")}
    runner = CliRunner(env={"NO_COLOR": "1", "COLUMNS": "120"} | places)

    def run(*arguments: str, **variables: str) -> Result:
        return runner.invoke(app, list(arguments), env=variables, catch_exceptions=False)

    return run
