"""An adapter must match the names and shapes of its base; corrupt headers are refused."""

import json
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from mongars.errors import AdapterRefusedError, InputError, ModelNotFoundError
from mongars.registry import AdapterStore, BaseSpec, PublishRequest, read_shapes
from mongars.registry.base_fit import Shapes
from mongars.registry.validation import read_tensors, validate_folder

WEIGHTS = "adapter_model.safetensors"
SHAPES: Shapes = {
    "model.embed_tokens.weight": (9, 4),
    "model.norm.weight": (4,),
    "model.layers.0.self_attn.q_proj.weight": (6, 4),
    "model.layers.0.mlp.up_proj.weight": (8, 4),
}
BASE = BaseSpec("b" * 64, SHAPES)
INNER = "base_model.model.layers.0.self_attn.q_proj"
OUTER = "base_model.model.model.layers.0.self_attn.q_proj"


def pair(module: str, rank: int = 2, inside: int = 4, outside: int = 6) -> dict[str, np.ndarray]:
    return {
        f"{module}.lora_A.weight": np.ones((rank, inside), np.float32),
        f"{module}.lora_B.weight": np.ones((outside, rank), np.float32),
    }


@pytest.fixture
def folder(write_adapter, tmp_path: Path):
    """Return folder(tensors, kind, **config) -> the folder of an adapter with these tensors."""

    def make(tensors: dict[str, np.ndarray], kind: str = "encoder", **config: object) -> Path:
        made = write_adapter(tmp_path / "adapter", 0, kind=kind)
        save_file(tensors, made / WEIGHTS)
        whole = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], **config}
        (made / "adapter_config.json").write_text(json.dumps(whole))
        return made

    return make


@pytest.mark.parametrize(("kind", "module"), [("encoder", INNER), ("chat", OUTER)])
@pytest.mark.parametrize("targets", [["q_proj"], ["self_attn.q_proj"], r".*\.q_proj"])
def test_a_lora_that_fits_is_accepted(folder, kind: str, module: str, targets: object) -> None:
    made = folder(pair(module), kind, target_modules=targets)
    validate_folder(made, BASE, kind)


def test_a_base_saved_without_its_head_accepts_an_encoder(folder) -> None:
    bare = {name.removeprefix("model."): shape for name, shape in SHAPES.items()}
    validate_folder(folder(pair(INNER)), BaseSpec(BASE.digest, bare))


@pytest.mark.parametrize(
    ("tensors", "kind", "config", "message"),
    [
        (pair(INNER, rank=3), "encoder", {}, "not that of rank 2"),
        (pair(INNER, inside=6, outside=4), "encoder", {}, r"A \[2, 6\] and B \[4, 2\].* weight is \[6, 4\]"),
        (pair(INNER, outside=5), "encoder", {}, r"B \[5, 2\]"),
        (pair(INNER.replace("layers.0", "layers.1")), "encoder", {}, r"no module .*layers\.1"),
        (pair("q_proj"), "encoder", {}, "no module q_proj"),
        (pair(OUTER), "encoder", {}, "of the whole model"),
        (pair(INNER), "chat", {}, "of the inner model"),
        (pair("base_model.model.norm"), "encoder", {}, "no module base_model.model.norm"),
        (pair(INNER), "encoder", {"target_modules": ["up_proj"]}, "do not name layers.0.self_attn.q_proj"),
        (pair(INNER), "encoder", {"target_modules": None}, "do not name"),
        (pair(INNER), "encoder", {"target_modules": "("}, "do not name"),
        (pair(INNER), "encoder", {"target_modules": ["q_proj", "up_proj"]}, r"no weights for layers\.0\.mlp"),
        (pair(INNER) | {"layers.0.extra": np.ones(1, np.float32)}, "encoder", {}, "extra is not a LoRA tensor"),
    ],
)
def test_a_lora_that_does_not_fit_is_refused_with_the_mismatch(
    keep, folder, tmp_path: Path, tensors: dict[str, np.ndarray], kind: str, config: dict, message: str
) -> None:
    store = AdapterStore(tmp_path / "encoders")
    with pytest.raises(AdapterRefusedError, match=message):
        keep(store, PublishRequest(folder(tensors, kind, **config), "a", BASE, kind))
    assert not store.root.exists()


@pytest.mark.parametrize("kind", ["encoder", "chat"])
def test_an_adapter_by_peft_fits_its_base_and_no_wider_one(base: SimpleNamespace, make_adapter, kind: str) -> None:
    made, spec = make_adapter(3, kind), BaseSpec.of(base.path)
    validate_folder(made.folder, spec, kind)
    wider = {name: tuple(2 * size for size in shape) for name, shape in spec.shapes.items()}
    with pytest.raises(AdapterRefusedError, match="but the base's weight is"):
        validate_folder(made.folder, BaseSpec(base.digest, wider), kind)


def test_the_shapes_of_a_base_cover_every_shard(tmp_path: Path) -> None:
    for number in (1, 2):
        save_file({f"w{number}": np.ones((number, 3), np.float16)}, tmp_path / f"model-{number}.safetensors")
    assert read_shapes(tmp_path) == {"w1": (1, 3), "w2": (2, 3)}


def test_an_absent_or_damaged_base_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no safetensors"):
        read_shapes(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x08" + b"\0" * 7 + b"{")
    with pytest.raises(InputError, match=r"model\.safetensors"):
        read_shapes(tmp_path)


def written(path: Path, header: dict[str, object], data: bytes) -> Path:
    """Write a safetensors file: 8 bytes of length, the JSON header, the values."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


SIZE = 16  # bytes of values: two float32 tensors of two
VALID = ((0, 8), (8, 16))
offsets = st.tuples(st.integers(-8, 3 * SIZE), st.integers(-8, 3 * SIZE)) | st.tuples(
    st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)
)


@settings(max_examples=200, deadline=None)
@given(first=offsets, second=offsets)
def test_offsets_that_are_negative_overlap_or_leave_gaps_are_refused(
    tmp_path_factory: pytest.TempPathFactory, first: tuple[int, int], second: tuple[int, int]
) -> None:
    header = {
        name: {"dtype": "F32", "shape": [2], "data_offsets": list(place)}
        for name, place in (("a", first), ("b", second))
    }
    path = written(tmp_path_factory.getbasetemp() / "corrupt.safetensors", header, b"\0" * SIZE)
    if sorted([first, second]) == sorted(VALID):
        assert len(read_tensors(path)) == 2
        return
    with pytest.raises(AdapterRefusedError, match="not a whole safetensors file"):
        read_tensors(path)


@settings(max_examples=100, deadline=None)
@given(shape=st.lists(st.integers(-1, 2**63), max_size=3), dtype=st.sampled_from(["F32", "BF16", "F99", ""]))
def test_a_shape_or_type_that_does_not_match_its_bytes_is_refused(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], dtype: str
) -> None:
    header = {"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, SIZE]}}
    path = written(tmp_path_factory.getbasetemp() / "corrupt.safetensors", header, b"\0" * SIZE)
    width = {"F32": 4, "BF16": 2}.get(dtype, 0)
    valid = width and all(size >= 0 for size in shape) and width * int(np.prod(shape, dtype=object)) == SIZE
    if valid:
        assert read_tensors(path)[0][1]["shape"] == shape
        return
    with pytest.raises(AdapterRefusedError, match="not a whole safetensors file"):
        read_tensors(path)


@given(length=st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_a_header_longer_than_the_file_is_refused(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.getbasetemp() / "corrupt.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"[" * 64)
    with pytest.raises(AdapterRefusedError, match="not a whole safetensors file"):
        read_tensors(path)


def test_a_truncated_file_is_refused(folder) -> None:
    made = folder(pair(INNER))
    whole = (made / WEIGHTS).read_bytes()
    for cut in range(0, len(whole), 7):
        (made / WEIGHTS).write_bytes(whole[:cut])
        with pytest.raises(AdapterRefusedError):
            validate_folder(made, BASE)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_value_that_is_not_finite_is_refused(folder, value: float) -> None:
    made = folder(pair(INNER))
    tensors = load_file(made / WEIGHTS)
    tensors[f"{INNER}.lora_B.weight"][5, 1] = value
    save_file(tensors, made / WEIGHTS)
    with pytest.raises(AdapterRefusedError, match=r"lora_B\.weight has a value that is not finite"):
        validate_folder(made, BASE)
