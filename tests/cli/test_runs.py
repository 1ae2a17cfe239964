"""`mongars runs`: list and delete what unfinished runs left."""

import json
from pathlib import Path

KEY = "0123456789abcdef"


def test_a_checkpoint_is_listed_and_deleted(mongars, tmp_path: Path) -> None:
    kept = tmp_path / "var" / "training" / f"{KEY}.checkpoint.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_text("weights")
    (row,) = json.loads(mongars("runs", "list", "--json").stdout)
    assert (row["key"], row["left"], row["alive"]) == (KEY, [str(kept)], False)
    assert KEY in mongars("runs", "list").stdout
    unknown = mongars("runs", "delete", KEY, "0" * 16)
    assert unknown.exit_code == 1
    assert f"No unfinished run {'0' * 16}. See: mongars runs list" in unknown.stderr
    assert kept.exists(), "nothing is deleted when a key is wrong"
    assert mongars("runs", "delete", KEY).exit_code == 0
    assert not kept.exists()
    assert json.loads(mongars("runs", "list", "--json").stdout) == []
