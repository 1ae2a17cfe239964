"""Small real adapter folders for the registry's tests."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

BASE = "b" * 64
RANK, WIDTH = 2, 4
MODULE = "base_model.model.layers.0.self_attn.q_proj"

MakeFolder = Callable[..., Path]


def _write_adapter(folder: Path, seed: int, **card: object) -> Path:
    """Write a whole, valid adapter whose weights depend on `seed`; `card` overrides fields of its card."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    tensors = {
        f"{MODULE}.lora_A.weight": random.normal(size=(RANK, WIDTH)).astype(np.float32),
        f"{MODULE}.lora_B.weight": random.normal(size=(WIDTH, RANK)).astype(np.float32),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": RANK}))
    fields = {
        "schema": 1,
        "kind": "encoder",
        "objective": "mntp",
        "base": "nano",
        "base_digest": BASE,
        "dataset": {"name": "dialogues", "version": "v1", "digest": "d" * 64},
        "recipe": {"steps": 3},
        "recipe_digest": "e" * 64,
        "seed": seed,
        "metrics": {"loss": 1.5},
        **card,
    }
    (folder / "card.json").write_text(json.dumps(fields))
    return folder


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    def make(seed: int = 0, **card: object) -> Path:
        return _write_adapter(tmp_path / f"trained-{seed}", seed, **card)

    return make


@pytest.fixture(scope="session")
def write_adapter() -> MakeFolder:
    return _write_adapter
