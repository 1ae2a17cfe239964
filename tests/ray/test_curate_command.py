"""`mongars curate` on the session's Ray: from the ingested file to what is on disk."""

import json
from contextlib import nullcontext
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mongars.demo.generator import generate
from mongars.formats.jsonl import write_conversations
from mongars.records import Conversation, Turn

pytestmark = pytest.mark.ray

ADDRESS, REFUSED = "quill.ferret.77@example.org", "the zanzibar umbrella"


@pytest.fixture(autouse=True)
def on_the_ray_of_the_session(ray_session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mongars.serving.cluster.ray_session", lambda _settings, _address: nullcontext())


def test_excluding_the_version_of_the_same_files_keeps_no_row(mongars, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    write_conversations(chats, generate(20, seed=3).conversations)
    first = json.loads(mongars("curate", str(chats), "--name", "first", "--json").stdout)
    result = mongars("curate", "--input", str(chats), "--name", "second", "--exclude-version", "first", "--json")
    report = json.loads(result.stdout)
    assert report["rows_kept"] == 0
    assert report["dropped"]["in_earlier_version"] >= first["rows_kept"] > 0


def test_curating_the_repository_leaves_no_unredacted_text_behind(mongars, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    answer = Turn("assistant", "There is one near the station, and it opens at seven.")
    ask = f"Where is a good restaurant? Please write to {ADDRESS}."
    made = generate(20, seed=3).conversations
    allowed = Conversation("allowed", "anna", (Turn("user", ask), answer), consent=True)
    refused = Conversation("refused", "bob", (Turn("user", f"Where is {REFUSED}?"), answer), consent=False)
    write_conversations(chats, (*made, allowed, refused))
    assert mongars("ingest", str(chats)).exit_code == 0
    chats.unlink()
    result = mongars("curate", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["rows_read"] == report["rows_kept"] + sum(report["dropped"].values())
    assert report["rows_read"] == 1 + sum(each.consent for each in made)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.name.startswith("mongars.db")]
    for text in (ADDRESS, REFUSED):
        assert not [path for path in files if text.encode() in path.read_bytes()]
    parts = [path for path in files if path.suffix == ".parquet"]  # compressed, so a byte search is not enough
    rows = {row["id"]: row for path in parts for row in pq.read_table(path).to_pylist()}
    assert "<EMAIL_" in rows["allowed"]["messages"][0]["content"]
    assert "refused" not in rows
    assert ADDRESS not in str(rows)
