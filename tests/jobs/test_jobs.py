"""The jobs' mistakes: each ends in a message and a code before a Ray is needed; tests/ray runs them for real."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JOBS = sorted(path.name for path in (ROOT / "jobs").glob("*.py"))


def job(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    places = {"MONGARS_HOME": str(tmp_path / "var"), "MONGARS_MODELS_DIR": str(tmp_path / "models")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | places,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", JOBS)
def test_every_job_tells_its_flags(tmp_path: Path, name: str) -> None:
    result = job(tmp_path, f"jobs/{name}", "--help")
    assert result.returncode == 0
    assert "usage:" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("jobs/curate.py",), 2, "--input"),
        (("jobs/curate.py", "--input", "x.jsonl", "--name", "x", "--against", "nothing"), 1, "nothing"),
        (("jobs/train_mntp.py", "--dataset", "nothing"), 1, "nothing"),
        (("jobs/train_mntp.py", "--dataset", "nothing", "--set", "step=3"), 2, "step"),
        (("jobs/train_mntp.py", "--dataset", "nothing", "--set", "batch_pairs=4"), 2, "batch_rows"),
        (
            ("jobs/train_mntp.py", "--dataset", "nothing", "--objective", "contrastive", "--set", "micro_rows=3"),
            2,
            "batch_pairs",
        ),
        (("jobs/self_train.py", "--set", "steps=none"), 2, "--set steps=60"),
        (("jobs/self_train.py", "--tolerance", "-0.1"), 2, "tolerance >= 0"),
        (("jobs/self_train.py", "--set-2", "steps=3"), 2, "--stage-2"),
        (("jobs/pretrain_base.py", "--input", "nowhere.jsonl", "--output", "base"), 2, "nowhere.jsonl"),
        (("jobs/pretrain_base.py", "--input", "README.md", "--output", "docs"), 2, "not empty"),
        (("jobs/pretrain_base.py", "--input", "README.md", "--output", "base", "--set", "heads=3"), 2, "heads 3"),
    ],
)
def test_a_mistake_ends_in_a_message_without_a_stack_trace(
    tmp_path: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    result = job(tmp_path, *arguments)
    assert result.returncode == code, result.stderr
    assert told in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
