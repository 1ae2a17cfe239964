"""`mongars embed`: a file of texts to a file of vectors."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from mongars.formats.jsonl import write_lines
from mongars.registry import AdapterRegistry, BaseSpec, PublishRequest

TEXTS = ["hello there", "how are you today?", "you"]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl.gz"
    write_lines(path, [{"id": f"t{number}", "text": text} for number, text in enumerate(TEXTS)])
    return path


@pytest.fixture
def embed(mongars, texts: Path, tmp_path: Path, base_folder: Path):
    """Return embed(*flags) -> Result, which embeds the texts to v.parquet."""
    places = ("--input", str(texts), "--output", str(tmp_path / "v.parquet"), "--base", str(base_folder))
    return lambda *flags: mongars("embed", *places, *flags)


@pytest.fixture
def adapter(
    tmp_path: Path, base: SimpleNamespace, make_adapter: Callable[..., SimpleNamespace]
) -> SimpleNamespace:
    """An encoder adapter, registered in the home as a candidate."""
    made = make_adapter(3)
    registry = AdapterRegistry(tmp_path / "models" / "encoders")
    registry.register(PublishRequest(made.folder, "tiny", BaseSpec.of(base.path)))
    return SimpleNamespace(digest=made.ref.digest, folder=made.folder, registry=registry)


def vectors(path: Path) -> np.ndarray:
    return np.array(pq.read_table(path)["vector"].to_pylist(), dtype=np.float32)


def test_an_adapter_of_the_registry_embeds_as_the_server_would(
    embed,
    tmp_path: Path,
    base: SimpleNamespace,
    adapter: SimpleNamespace,
    offline_vectors: Callable[..., np.ndarray],
) -> None:
    result = embed("--adapter", adapter.digest[:12], "--json")
    assert result.exit_code == 0, result.stderr
    np.testing.assert_allclose(vectors(tmp_path / "v.parquet"), offline_vectors(adapter.folder, TEXTS), atol=1e-5)
    summary = json.loads(result.stdout)
    assert summary.pop("tokens") > 0
    assert summary == {
        "output": str(tmp_path / "v.parquet"),
        "rows": 3,
        "bad_lines": 0,
        "dimensions": 32,
        "attention": "bidirectional",
        "base": {"name": base.path.name, "digest": base.digest},
        "adapter": {"name": "tiny", "digest": adapter.digest},
    }
    assert pq.read_schema(tmp_path / "v.parquet").metadata[b"mongars.adapter"] == adapter.digest.encode()


def test_a_bad_line_is_left_out_and_only_force_replaces_the_output(
    embed, tmp_path: Path, texts: Path, offline_vectors: Callable[..., np.ndarray]
) -> None:
    output = tmp_path / "v.parquet"
    output.write_bytes(b"old")
    refused = embed()
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert output.read_bytes() == b"old"

    write_lines(texts, [{"id": "a", "text": TEXTS[0]}, {"id": "b", "text": ""}, {"id": "c", "text": TEXTS[1]}])
    done = embed("--force")
    assert done.exit_code == 1
    assert f"{texts}:2: an empty `text`" in done.stderr
    assert pq.read_table(output)["id"].to_pylist() == ["a", "c"]
    np.testing.assert_allclose(vectors(output), offline_vectors(None, TEXTS[:2]), atol=1e-5)


def test_causal_vectors_differ_and_the_file_records_it(
    embed, tmp_path: Path, offline_vectors: Callable[..., np.ndarray]
) -> None:
    assert embed("--attention", "causal").exit_code == 0
    assert not np.allclose(vectors(tmp_path / "v.parquet"), offline_vectors(None, TEXTS), atol=1e-2)
    assert pq.read_schema(tmp_path / "v.parquet").metadata[b"mongars.attention"] == b"causal"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--adapter", "0" * 64, "--attention", "causal"), "trained with bidirectional attention"),
        (("--attention", "sideways"), "bidirectional"),
        (("--input", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--output", "."), "is a folder"),
    ],
)
def test_impossible_options_are_a_usage_error_before_a_model_loads(
    embed, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    result = embed("--base", "no such base", *flags)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "v.parquet").exists()


def test_the_input_is_never_replaced(embed, texts: Path) -> None:
    before = texts.read_bytes()
    result = embed("--output", str(texts), "--force")
    assert result.exit_code == 2
    assert texts.read_bytes() == before


def test_a_revoked_adapter_is_not_found_and_nothing_is_written(
    embed, tmp_path: Path, adapter: SimpleNamespace
) -> None:
    adapter.registry.revoke(adapter.digest)
    result = embed("--adapter", adapter.digest)
    assert result.exit_code == 1
    assert "is revoked" in result.stderr
    assert not (tmp_path / "v.parquet").exists()


def test_an_adapter_of_another_base_is_refused(
    embed, tmp_path: Path, base_folder: Path, adapter: SimpleNamespace
) -> None:
    other = shutil.copytree(base_folder, tmp_path / "other")
    config = other / "config.json"
    config.write_text(config.read_text() + "\n")  # other bytes, another digest
    result = embed("--base", str(other), "--adapter", adapter.digest)
    assert result.exit_code == 1
    assert "was trained on the base" in result.stderr
