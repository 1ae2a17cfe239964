"""Jobs and commands, run in this process as their own would run them."""

import os
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mongars.cli.main import main

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """How a process would have ended."""

    code: int
    stdout: str
    stderr: str


Entry = Callable[..., Ended]


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Entry:
    """Return entry(program, *arguments) -> Ended, where `program` is `jobs/NAME.py` or `mongars`."""
    for name in [name for name in os.environ if name.startswith(("MONGARS_", "RAY_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MONGARS_HOME", str(tmp_path / "var"))
    monkeypatch.setenv("MONGARS_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(ROOT)

    def run(program: str, *arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        with pytest.raises(SystemExit) as ended:
            if program == "mongars":
                main()
            else:
                runpy.run_path(program, run_name="__main__")
        printed = capsys.readouterr()
        return Ended(int(ended.value.code or 0), printed.out, printed.err)

    return run
