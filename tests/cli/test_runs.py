"""`mongars runs`: an operator finds what unfinished runs keep, and deletes it."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]
KEY = "0123456789abcdef"


def test_what_a_run_keeps_is_listed_and_deleted(mongars: Run, tmp_path: Path) -> None:
    kept = tmp_path / "var" / "training" / f"{KEY}.checkpoint.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_text("weights")
    (row,) = json.loads(mongars("runs", "list", "--json").stdout)
    assert (row["key"], row["left"], row["alive"]) == (KEY, [str(kept)], False)
    assert KEY in mongars("runs", "list").stdout
    unknown = mongars("runs", "delete", KEY, "0" * 16)
    assert unknown.returncode == 1
    assert f"No unfinished run {'0' * 16}. See: mongars runs list" in unknown.stderr
    assert kept.exists(), "nothing is deleted where a key is wrong"
    assert mongars("runs", "delete", KEY).returncode == 0
    assert not kept.exists()
    assert json.loads(mongars("runs", "list", "--json").stdout) == []
