"""The floor plan is executable: import-linter keeps it, and sees a floor that is broken on purpose."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    linter = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [linter, "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(folder)},
    )


@pytest.fixture
def copied_house(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "mongars", tmp_path / "mongars", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_floors_hold(copied_house: Path) -> None:
    result = lint(copied_house)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("records.py", "import mongars.memory", "Floors"),
        ("memory/__init__.py", "import mongars.serving", "Floors"),
        ("memory/__init__.py", "import mongars.registry", "Floors"),
        ("serving/__init__.py", "import mongars.evolution", "Floors"),
        ("conversation/__init__.py", "import ray", "Ray at its named edges"),
        ("cli/__init__.py", "import mongars.registry", "Command line and demo"),
    ],
)
def test_a_broken_floor_is_seen(copied_house: Path, module: str, line: str, contract: str) -> None:
    with (copied_house / "mongars" / module).open("a") as source:
        source.write(f"\n{line}\n")
    result = lint(copied_house)
    assert result.returncode != 0
    assert any(contract in printed and "BROKEN" in printed for printed in result.stdout.splitlines())
