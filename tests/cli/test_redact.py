"""`mongars redact`: a file of texts to the same file without personal data."""

import json
from pathlib import Path

import pytest


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    lines = [{"id": "a", "text": "Mail anna@example.com"}, {"id": "b"}, {"id": 3, "text": "nothing here"}]
    path.write_text("\n".join([*map(json.dumps, lines), "{broken"]) + "\n")
    return path


def test_a_file_is_redacted_and_bad_lines_are_reported(mongars, texts: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    result = mongars("redact", "--input", str(texts), "--output", str(output), "--mode", "tag", "--json")
    assert result.exit_code == 1
    assert f"{texts}:2: " in result.stderr
    assert f"{texts}:4: " in result.stderr
    assert "anna" not in result.stderr + result.stdout
    assert json.loads(result.stdout) == {
        "output": str(output),
        "texts": 2,
        "unreadable lines": 2,
        "spans": {"EMAIL": 1},
    }
    first, second = map(json.loads, output.read_text().splitlines())
    assert first == {
        "id": "a",
        "text": "Mail <EMAIL>",
        "spans": [{"start": 5, "end": 21, "type": "EMAIL", "score": 0.99}],
    }
    assert second == {"id": "3", "text": "nothing here", "spans": []}


def test_only_force_replaces_an_output_and_never_the_input(mongars, texts: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    output.write_text("mine")
    refused = mongars("redact", "--input", str(texts), "--output", str(output))
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert output.read_text() == "mine"
    assert mongars("redact", "--input", str(texts), "--output", str(texts), "--force").exit_code == 2
    assert mongars("redact", "--input", str(texts), "--output", str(output), "--force").exit_code == 1
    assert "<EMAIL_" in output.read_text()


def test_known_values_are_read_from_a_file(mongars, tmp_path: Path) -> None:
    known, source, output = (tmp_path / name for name in ("known.txt", "in.jsonl", "out.jsonl.gz"))
    known.write_text("Zorb Quux\n\n")
    source.write_text('{"id": 1, "text": "so ZORB quux said"}\n')
    result = mongars(
        "redact", "--input", str(source), "--output", str(output), "--known", str(known), "--no-names", "--json"
    )
    assert result.exit_code == 0
    assert json.loads(result.stdout)["spans"] == {"PERSON": 1}
