"""`mongars ingest`, `curate`, `datasets` and `adapters` in an empty home."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

GOOD = {
    "id": "c1",
    "user": "anna",
    "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
}


NOTHING = dict.fromkeys(
    ("new", "extended", "already there", "consent withdrawn", "unreadable lines", "refused"), 0
)


def write(path: Path, *lines: dict | str) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    return write(tmp_path / "chats.jsonl", GOOD, "{broken", GOOD | {"id": "c2"}, {"id": "c3"})


def test_ingest_reports_unreadable_lines_and_saves_the_rest(mongars, chats: Path) -> None:
    result = mongars("ingest", str(chats), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == NOTHING | {"new": 2, "unreadable lines": 2}
    assert f"{chats}:2: " in result.stderr
    assert f"{chats}:4: " in result.stderr


def test_ingest_reports_refused_conversations_and_saves_the_rest(mongars, tmp_path: Path) -> None:
    null = {"messages": [{"role": "user", "content": "a\0b"}]}
    lines = [GOOD, GOOD | {"user": "bob"}, GOOD | null | {"id": "c2"}, GOOD | {"id": "c3"}]
    result = mongars("ingest", str(write(tmp_path / "chats.jsonl", *lines)), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == NOTHING | {"new": 2, "refused": 2}
    assert "'c1'" in result.stderr
    assert "'c2'" in result.stderr


def test_an_impossible_profile_makes_its_line_unreadable(mongars, tmp_path: Path) -> None:
    lines = [GOOD | {"profile": {"names": ["Ann", "A"]}}, GOOD | {"id": "c2", "profile": {"names": ["Ann"]}}]
    path = write(tmp_path / "chats.jsonl", *lines)
    result = mongars("ingest", str(path), "--json")
    assert (result.exit_code, json.loads(result.stdout)["new"]) == (1, 1)
    assert f"{path}:1: the profile has an impossible value among its names" in result.stderr


def test_a_second_ingest_adds_nothing(mongars, tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(GOOD).encode()))
    assert mongars("ingest", str(path)).exit_code == 0
    assert json.loads(mongars("ingest", str(path), "--json").stdout)["already there"] == 1


def test_ingest_reports_what_has_grown_what_was_withdrawn_and_what_differs(mongars, tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    ids = ("c1", "c2", "c3", "c4")
    mongars("ingest", str(write(path, *(GOOD | {"id": identity, "consent": True} for identity in ids))))
    more = {"messages": [*GOOD["messages"], {"role": "user", "content": "Bye"}], "consent": True}
    other = {"messages": [{"role": "user", "content": "Hey"}], "consent": True}
    lines = [GOOD | more, GOOD | {"id": "c2", "consent": False}, GOOD | {"id": "c3"} | other, GOOD | {"id": "c4"}]
    lines[3] |= {"consent": True}
    result = mongars("ingest", str(write(path, *lines)), "--json")
    expected = {"extended": 1, "already there": 2, "consent withdrawn": 1, "refused": 1}
    assert json.loads(result.stdout) == NOTHING | expected
    assert "'c3' is stored with other turns" in result.stderr


def test_a_missing_file_is_a_usage_error_before_another_is_saved(mongars, chats: Path) -> None:
    result = mongars("ingest", str(chats), "nowhere.jsonl")
    assert result.exit_code == 2
    assert "nowhere.jsonl" in result.stderr
    assert json.loads(mongars("ingest", str(chats), "--json").stdout)["new"] == 2


def test_an_empty_home_has_no_datasets_and_no_adapters(mongars) -> None:
    assert json.loads(mongars("datasets", "list", "--json").stdout) == []
    listed = json.loads(mongars("adapters", "list", "--json").stdout)
    assert (listed["generation"], listed["adapters"]) == (0, [])


def test_curate_without_conversations_is_refused_with_the_remedy(mongars) -> None:
    result = mongars("curate")
    assert result.exit_code == 1
    assert "mongars ingest" in result.stderr


@pytest.mark.parametrize("option", ["--exclude-version", "--against"])
def test_an_unknown_version_is_reported_before_anything_is_read(mongars, option: str) -> None:
    result = mongars("curate", "nowhere.jsonl", option, "nothing@v3")
    assert result.exit_code == 1
    assert "No dataset nothing v3" in result.stderr


def test_prune_lists_adapters_and_removes_them_only_with_yes(mongars) -> None:
    assert mongars("adapters", "prune").exit_code == 2
    shown = json.loads(mongars("adapters", "prune", "--keep", "2", "--json").stdout)
    assert shown == {"removed": False, "adapters": []}
    done = json.loads(mongars("adapters", "prune", "--keep", "2", "--yes", "--json").stdout)
    assert done == {"removed": True, "adapters": []}


def test_importing_a_lora_twice_makes_one_candidate(
    mongars, base_folder: Path, make_adapter: Callable[..., SimpleNamespace]
) -> None:
    arguments = ("--name", "theirs", "--kind", "chat", "--base", str(base_folder), "--json")
    folder = make_adapter(8, "encoder").folder  # the layout of the inner model
    first, second = (json.loads(mongars("adapters", "import", str(folder), *arguments).stdout) for _ in range(2))
    assert (first["adapter"]["state"], first["adapter"]["kind"], first["changed"]) == ("candidate", "chat", True)
    assert (second["adapter"]["digest"], second["changed"]) == (first["adapter"]["digest"], False)


@pytest.mark.parametrize("form", [(), ("--folder",)])
def test_publish_takes_the_folder_as_an_argument_or_an_option(
    mongars, base_folder: Path, make_adapter: Callable[..., SimpleNamespace], form: tuple[str, ...]
) -> None:
    made = make_adapter(8)
    command = ("adapters", "publish", *form, str(made.folder), "--name", "ours", "--json")
    done = json.loads(mongars(*command, MONGARS_BASE_MODEL=str(base_folder)).stdout)
    assert (done["adapter"]["digest"], done["adapter"]["state"]) == (made.ref.digest, "active")
    assert "replicas" not in done  # published without a server


def test_publish_without_a_folder_is_a_usage_error(mongars) -> None:
    assert mongars("adapters", "publish", "--name", "ours").exit_code == 2
