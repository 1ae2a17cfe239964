"""`mongars ingest`, `datasets` and `adapters` on an empty home."""

import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from mongars.demo.generator import generate
from mongars.formats.jsonl import write_conversations
from mongars.records import Conversation, Turn

Run = Callable[..., subprocess.CompletedProcess[str]]

ADDRESS, REFUSED = "quill.ferret.77@example.org", "the zanzibar umbrella"
GOOD = {
    "id": "c1",
    "user": "anna",
    "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
}


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    lines = [json.dumps(GOOD), "{broken", json.dumps(GOOD | {"id": "c2"}), json.dumps({"id": "c3"})]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_an_unreadable_line_is_named_by_number_and_the_rest_is_kept(mongars: Run, chats: Path) -> None:
    result = mongars("ingest", str(chats), "--json")
    assert result.returncode == 1
    assert json.loads(result.stdout) == {
        "new": 2,
        "already there": 0,
        "unreadable lines": 2,
        "refused": 0,
    }
    assert f"{chats}:2: " in result.stderr
    assert f"{chats}:4: " in result.stderr


def test_a_conversation_that_cannot_be_kept_is_named_and_the_rest_is_kept(mongars: Run, tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    null = {"messages": [{"role": "user", "content": "a\0b"}]}
    lines = [GOOD, GOOD | {"user": "bob"}, GOOD | null | {"id": "c2"}, GOOD | {"id": "c3"}]
    path.write_text("\n".join(map(json.dumps, lines)))
    result = mongars("ingest", str(path), "--json")
    assert result.returncode == 1
    assert json.loads(result.stdout) == {"new": 2, "already there": 0, "unreadable lines": 0, "refused": 2}
    assert "'c1'" in result.stderr
    assert "'c2'" in result.stderr


def test_a_profile_that_cannot_be_one_makes_its_line_unreadable(mongars: Run, tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    lines = [GOOD | {"profile": {"names": ["Ann", "A"]}}, GOOD | {"id": "c2", "profile": {"names": ["Ann"]}}]
    path.write_text("\n".join(map(json.dumps, lines)))
    result = mongars("ingest", str(path), "--json")
    assert (result.returncode, json.loads(result.stdout)["new"]) == (1, 1)
    assert f"{path}:1: a value of a profile's names cannot be one" in result.stderr


def test_a_second_ingest_adds_nothing(mongars: Run, tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(GOOD).encode()))
    assert mongars("ingest", str(path)).returncode == 0
    assert json.loads(mongars("ingest", str(path), "--json").stdout)["already there"] == 1


def test_a_missing_file_is_a_usage_error_that_names_it(mongars: Run) -> None:
    result = mongars("ingest", "nowhere.jsonl")
    assert result.returncode == 2
    assert "nowhere.jsonl" in result.stderr


def test_an_empty_home_lists_no_datasets_and_no_adapters(mongars: Run) -> None:
    assert json.loads(mongars("datasets", "list", "--json").stdout) == []
    listed = json.loads(mongars("adapters", "list", "--json").stdout)
    assert (listed["generation"], listed["adapters"]) == (0, [])


def test_nothing_to_train_on_is_refused_with_the_remedy(mongars: Run) -> None:
    result = mongars("curate")
    assert result.returncode == 1
    assert "mongars ingest" in result.stderr


def test_an_earlier_version_that_is_not_there_is_named_before_anything_is_read(mongars: Run, chats: Path) -> None:
    result = mongars("curate", str(chats), "--against", "nothing@v3")
    assert result.returncode == 1
    assert "No dataset nothing v3" in result.stderr


@pytest.mark.ray
def test_curating_against_the_version_of_the_same_files_takes_nothing_in(mongars: Run, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    write_conversations(chats, generate(20, seed=3).conversations)
    first = json.loads(mongars("curate", str(chats), "--name", "first", "--json").stdout)
    result = mongars("curate", str(chats), "--name", "second", "--against", "first", "--json")
    report = json.loads(result.stdout)
    assert report["rows_kept"] == 0
    assert report["dropped"]["in_earlier_version"] >= first["rows_kept"] > 0


@pytest.mark.ray
def test_curating_the_repository_leaves_no_original_text_outside_the_database(
    mongars: Run, tmp_path: Path
) -> None:
    chats = tmp_path / "chats.jsonl"
    answer = Turn("assistant", "There is one near the station, and it opens at seven.")
    ask = f"Where is a good restaurant? Please write to {ADDRESS}."
    made = generate(20, seed=3).conversations
    allowed = Conversation("allowed", "anna", (Turn("user", ask), answer), consent=True)
    refused = Conversation("refused", "bob", (Turn("user", f"Where is {REFUSED}?"), answer), consent=False)
    write_conversations(chats, (*made, allowed, refused))
    assert mongars("ingest", str(chats)).returncode == 0
    chats.unlink()
    result = mongars("curate", "--json")
    assert result.returncode == 0, result.stderr
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


def test_pruning_shows_before_it_removes_and_says_so(mongars: Run) -> None:
    assert mongars("adapters", "prune").returncode == 2
    shown = json.loads(mongars("adapters", "prune", "--keep", "2", "--json").stdout)
    assert shown == {"removed": False, "adapters": []}
    done = json.loads(mongars("adapters", "prune", "--keep", "2", "--yes", "--json").stdout)
    assert done == {"removed": True, "adapters": []}


def test_a_lora_made_elsewhere_is_imported_as_a_candidate_once(
    mongars: Run, base_folder: Path, make_adapter: Callable[..., SimpleNamespace]
) -> None:
    arguments = ("--name", "theirs", "--kind", "chat", "--base", str(base_folder), "--json")
    folder = make_adapter(8, "encoder").folder  # the layout of the inner model
    first, second = (json.loads(mongars("adapters", "import", str(folder), *arguments).stdout) for _ in range(2))
    assert (first["adapter"]["state"], first["adapter"]["kind"], first["changed"]) == ("candidate", "chat", True)
    assert (second["adapter"]["digest"], second["changed"]) == (first["adapter"]["digest"], False)
