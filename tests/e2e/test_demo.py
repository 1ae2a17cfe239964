"""`make demo` as a new user runs it: the whole loop, on generated conversations and on the user's own."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mongars.demo.generator import generate
from mongars.formats.jsonl import write_conversations

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def demo(checkout: Path, *arguments: str) -> dict[str, Any]:
    result = subprocess.run(
        ["make", "demo", *arguments], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "failed" in result.stdout
    return json.loads((checkout / "var" / "demo" / "report.json").read_text())


def assert_rows_add_up(report: dict[str, Any]) -> None:
    assert report["new_conversations"] == report["rows_read"] + report["without_consent"]
    assert report["rows_read"] == report["rows_kept"] + sum(report["dropped"].values())


def assert_no_request_failed(report: dict[str, Any]) -> None:
    assert (report["requests"]["failed"], report["requests"]["mixed"], report["replicas_restarted"]) == (0, 0, 0)


def test_the_demo_swaps_in_a_better_adapter_and_a_second_run_changes_nothing(checkout: Path) -> None:
    first = demo(checkout)
    assert first["outcome"] == "promoted"
    assert (first["generation_before"], first["generation"]) == (0, 1)
    champion, candidate = first["champion"], first["candidate"]
    assert candidate["held_out_loss"] < champion["held_out_loss"]
    assert candidate["ndcg_at_10"] > champion["ndcg_at_10"]
    assert len(first["replicas"]) == 2
    assert set(first["replicas"].values()) == {1}
    assert_no_request_failed(first)
    assert set(first["requests"]["by_generation"]) == {"0", "1"}
    planted = first["gold"]
    assert planted["personal_planted"] > 50
    assert [count for name, count in planted.items() if name.endswith("_left")] == [0, 0, 0, 0]
    assert_rows_add_up(first)

    second = demo(checkout)
    assert second["outcome"] == "unchanged"
    assert second["new_conversations"] == 0
    unchanged = ("dataset", "dataset_digest", "adapter", "generation", "rows_read", "rows_kept")
    assert [second[name] for name in unchanged] == [first[name] for name in unchanged]
    assert_no_request_failed(second)


def test_the_demo_runs_on_a_file_of_the_users_own(checkout: Path) -> None:
    write_conversations(checkout / "mine.jsonl", generate(200, seed=3).conversations)
    report = demo(checkout, "ARGS=--input mine.jsonl")
    assert report["source"].endswith("mine.jsonl")
    assert report["new_conversations"] == 200
    assert report["outcome"] in ("promoted", "refused")
    assert report["gold"] is None
    assert_rows_add_up(report)
    assert_no_request_failed(report)
