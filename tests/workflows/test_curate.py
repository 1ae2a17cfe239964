"""The source that curation reads when no files are given."""

from pathlib import Path

import pytest

from mongars.settings import Settings
from mongars.workflows.curate import consented_conversations


@pytest.mark.parametrize("others", [[], ["notes.txt"]])
def test_text_that_a_killed_earlier_version_left_is_removed(tmp_path: Path, others: list[str]) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()
    for name in ("consented.jsonl", ".consented.jsonl.a1b2.tmp", *others):
        (staging / name).write_text("private")
    source = consented_conversations(Settings(home=tmp_path, models_dir=tmp_path))
    assert source.count() == 0
    assert staging.exists() == bool(others)
    assert [path.name for path in tmp_path.glob("staging/*")] == others
