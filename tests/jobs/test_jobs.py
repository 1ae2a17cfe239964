"""The jobs: the commands of `mongars`, with JSON on stdout. tests/ray runs them on Ray."""

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JOBS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "jobs").glob("*.py"))


@pytest.mark.parametrize("job", JOBS)
def test_a_job_imports_only_the_command_line(job: str) -> None:
    tree = ast.parse((ROOT / job).read_text())
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert modules == ["mongars.cli.main"]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]


@pytest.mark.parametrize("job", JOBS)
def test_every_job_has_a_help_text(entry, job: str) -> None:
    ended = entry(job, "--help")
    assert ended.code == 0
    assert "Usage: mongars" in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("jobs/curate.py", "--name", "x"), 2, "--input"),
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
        (("jobs/self_train.py", "--tolerance", "-0.1"), 2, "greater than or equal to 0"),
        (("jobs/self_train.py", "--set-2", "steps=3"), 2, "--stage-2"),
        (("jobs/publish_adapter.py", "--name", "x"), 2, "FOLDER"),
        (("jobs/pretrain_base.py", "--input", "nowhere.jsonl", "--output", "base"), 2, "nowhere.jsonl"),
        (("jobs/pretrain_base.py", "--input", "README.md", "--output", "docs"), 2, "not empty"),
        (("jobs/pretrain_base.py", "--input", "README.md", "--output", "base", "--set", "heads=3"), 2, "heads 3"),
    ],
)
def test_a_mistake_ends_in_a_message_before_ray_starts(
    entry, arguments: tuple[str, ...], code: int, message: str
) -> None:
    ended = entry(*arguments)
    assert (ended.code, ended.stdout) == (code, ""), ended.stderr
    assert message in ended.stderr


def test_the_name_tagger_job_prints_figures_as_json(entry, tmp_path: Path) -> None:
    sentences = tmp_path / "names.conll"
    sentences.write_text("Anna\tB-person\nsmiled\tO\n\nRain\tO\nfell\tO\n\n" * 8)
    files = ("--train", str(sentences), "--heldout", str(sentences), "--output", str(tmp_path / "weights"))
    ended = entry("jobs/train_name_tagger.py", *files)
    assert ended.code == 0, ended.stderr
    (line,) = ended.stdout.splitlines()  # readers of `ray job logs` parse the last one
    assert json.loads(line)["names"] == 8
    assert list((tmp_path / "weights").iterdir())
