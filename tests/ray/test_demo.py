"""`make demo` as a new user runs it: the whole loop, then once more, on generated conversations."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


def demo(checkout: Path) -> dict[str, Any]:
    result = subprocess.run(["make", "demo"], cwd=checkout, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "failed" in result.stdout
    return json.loads((checkout / "var" / "demo" / "report.json").read_text())


def test_the_demo_swaps_a_better_adapter_under_load_and_a_second_run_changes_nothing(checkout: Path) -> None:
    first = demo(checkout)
    assert first["outcome"] == "promoted"
    assert (first["generation_before"], first["generation"]) == (0, 1)
    champion, candidate = first["champion"], first["candidate"]
    assert candidate["held_out_loss"] < champion["held_out_loss"]
    assert candidate["ndcg_at_10"] > champion["ndcg_at_10"]
    assert len(first["replicas"]) == 2
    assert set(first["replicas"].values()) == {1}
    requests = first["requests"]
    assert (requests["failed"], requests["mixed"], first["replicas_restarted"]) == (0, 0, 0)
    assert set(requests["by_generation"]) == {"0", "1"}
    planted = first["gold"]
    assert planted["personal_planted"] > 50
    assert [count for name, count in planted.items() if name.endswith("_left")] == [0, 0, 0, 0]
    assert first["new_conversations"] == first["rows_read"] + first["without_consent"]
    assert first["rows_read"] == first["rows_kept"] + sum(first["dropped"].values())

    second = demo(checkout)
    assert second["outcome"] == "unchanged"
    assert second["new_conversations"] == 0
    unchanged = ("dataset", "dataset_digest", "adapter", "generation", "rows_read", "rows_kept")
    assert [second[name] for name in unchanged] == [first[name] for name in unchanged]
    assert (second["requests"]["failed"], second["requests"]["mixed"]) == (0, 0)
