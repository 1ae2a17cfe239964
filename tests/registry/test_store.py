"""Valid adapters are stored by content; invalid folders are refused with the reason."""

import contextlib
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from mongars.errors import AdapterRefusedError
from mongars.registry import AdapterStore, BaseSpec, PublishRequest
from mongars.registry.validation import validate_folder
from mongars.storage.digests import folder_digest

BASE = BaseSpec("b" * 64, {"layers.0.self_attn.q_proj.weight": (4, 4)})
NARROW = BaseSpec(BASE.digest, {"layers.0.self_attn.q_proj.weight": (1, 1)})
MODULE = "base_model.model.layers.0.self_attn.q_proj"
WEIGHTS = "adapter_model.safetensors"

MakeFolder = Callable[..., Path]


@pytest.fixture
def store(tmp_path: Path) -> AdapterStore:
    return AdapterStore(tmp_path / "encoders")


def test_an_adapter_is_stored_under_its_name_and_digest(
    keep, store: AdapterStore, make_folder: MakeFolder
) -> None:
    folder = make_folder()
    ref = keep(store, PublishRequest(folder, "dialogues", BASE, metrics={"gain": 0.1}))
    assert ref.digest == folder_digest(folder)
    assert store.path(ref) == store.root / "dialogues" / ref.digest[:12]
    assert (ref.state, ref.dataset, ref.metrics) == ("candidate", "dialogues@v1", {"loss": 1.5, "gain": 0.1})
    assert store.card(ref).seed == 0
    store.verify(ref)


def test_admitting_twice_keeps_one_folder(keep, store: AdapterStore, make_folder: MakeFolder) -> None:
    folder = make_folder()
    first, second = (keep(store, PublishRequest(folder, "dialogues", BASE)) for _ in range(2))
    assert first.digest == second.digest
    assert len(list((store.root / "dialogues").iterdir())) == 1


def test_verify_and_the_next_admission_find_a_changed_file(
    keep, store: AdapterStore, make_folder: MakeFolder
) -> None:
    folder = make_folder()
    ref = keep(store, PublishRequest(folder, "dialogues", BASE))
    (store.path(ref) / "note.txt").write_text("added later")
    with pytest.raises(AdapterRefusedError, match="files were changed"):
        store.verify(ref)
    with pytest.raises(AdapterRefusedError, match="files were changed"):
        keep(store, PublishRequest(folder, "dialogues", BASE))


def test_the_next_admission_removes_a_half_copied_folder(
    keep, store: AdapterStore, make_folder: MakeFolder
) -> None:
    leftover = store.root / "dialogues" / ".0123456789ab.x.tmp"
    leftover.mkdir(parents=True)
    (leftover / WEIGHTS).write_bytes(b"half")
    ref = keep(store, PublishRequest(make_folder(), "dialogues", BASE))
    assert [path.name for path in (store.root / "dialogues").iterdir()] == [ref.digest[:12]]


@pytest.mark.parametrize("name", ["", "Upper", "a/b", "..", "a b", "x" * 65])
def test_an_invalid_name_is_refused(keep, store: AdapterStore, make_folder: MakeFolder, name: str) -> None:
    with pytest.raises(AdapterRefusedError, match="not a name"):
        keep(store, PublishRequest(make_folder(), name, BASE))
    assert not store.root.exists()


@pytest.mark.parametrize("extra", ["adapter_model.bin", "weights.pt", "state.pkl", "README.md"])
def test_an_unexpected_file_is_refused(make_folder: MakeFolder, extra: str) -> None:
    folder = make_folder()
    (folder / extra).write_bytes(b"x")
    with pytest.raises(AdapterRefusedError, match=extra):
        validate_folder(folder, BASE)


def test_a_symbolic_link_is_refused(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder()
    outside = (folder / WEIGHTS).rename(tmp_path / "outside")
    (folder / WEIGHTS).symlink_to(outside)
    with pytest.raises(AdapterRefusedError, match="not a regular file"):
        validate_folder(folder, BASE)


@pytest.mark.parametrize("missing", [WEIGHTS, "adapter_config.json", "card.json"])
def test_a_missing_file_is_named(make_folder: MakeFolder, missing: str) -> None:
    folder = make_folder()
    (folder / missing).unlink()
    with pytest.raises(AdapterRefusedError, match=missing):
        validate_folder(folder, BASE)


def test_an_adapter_of_another_base_is_refused(make_folder: MakeFolder) -> None:
    with pytest.raises(AdapterRefusedError, match="trained on the base cccccccccccc"):
        validate_folder(make_folder(base_digest="c" * 64), BASE)


@pytest.mark.parametrize("change", [{"seed": "0"}, {"extra": 1}, {"kind": "chat"}])
def test_an_incomplete_or_unknown_card_is_refused(make_folder: MakeFolder, change: dict[str, object]) -> None:
    folder = make_folder()
    card = json.loads((folder / "card.json").read_bytes()) | change
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(AdapterRefusedError, match=next(iter(change))):
        validate_folder(folder, BASE)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "not JSON"),
        ('{"peft_type": "IA3", "r": 2}', "peft_type"),
        ('{"peft_type": "LORA", "r": 0}', "r is 0"),
        ('{"peft_type": "LORA", "r": 4}', "rank 4"),
        ('{"peft_type": "LORA", "r": 2, "rank_pattern": {"q_proj": 4}}', "rank_pattern"),
    ],
)
def test_a_configuration_that_is_not_of_a_lora_is_refused(
    make_folder: MakeFolder, config: str, message: str
) -> None:
    folder = make_folder()
    (folder / "adapter_config.json").write_text(config)
    with pytest.raises(AdapterRefusedError, match=message):
        validate_folder(folder, BASE)


def matrix(*shape: int, value: float = 1.0, dtype: type = np.float32) -> np.ndarray:
    return np.full(shape, value, dtype=dtype)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "no tensor"),
        ({"model.embed_tokens.weight": matrix(4, 4)}, "embed_tokens.weight is not a LoRA tensor"),
        ({f"{MODULE}.lora_A.weight": matrix(2, 4)}, "only one of"),
        ({f"{MODULE}.lora_A.weight": matrix(2, 4, value=float("nan"))}, "not finite"),
        ({f"{MODULE}.lora_A.weight": matrix(2, 4, value=float("inf"), dtype=np.float16)}, "not finite"),
        ({f"{MODULE}.lora_A.weight": matrix(2, 4, dtype=np.int64)}, "type I64"),
        ({f"{MODULE}.lora_A.weight": matrix(3, 4)}, r"shape \[3, 4\]"),
        ({f"{MODULE}.lora_B.weight": matrix(2)}, r"shape \[2\]"),
    ],
)
def test_weights_that_are_not_a_complete_finite_lora_are_refused(
    make_folder: MakeFolder, tensors: dict[str, np.ndarray], message: str
) -> None:
    folder = make_folder()
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(AdapterRefusedError, match=message):
        validate_folder(folder, BASE)


def bfloat16_file(bits: int) -> bytes:
    """Return a safetensors file of lora_A [2, 1] and lora_B [1, 2] in bfloat16, with all values `bits`."""
    header = {
        f"{MODULE}.lora_A.weight": {"dtype": "BF16", "shape": [2, 1], "data_offsets": [0, 4]},
        f"{MODULE}.lora_B.weight": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [4, 8]},
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + struct.pack("<4H", *[bits] * 4)


@pytest.mark.parametrize(("bits", "accepted"), [(0x3F80, True), (0x7F80, False), (0xFFC0, False), (0x7F7F, True)])
def test_bfloat16_weights_must_be_finite(make_folder: MakeFolder, bits: int, accepted: bool) -> None:
    folder = make_folder()
    (folder / WEIGHTS).write_bytes(bfloat16_file(bits))
    if accepted:
        validate_folder(folder, NARROW)
    else:
        with pytest.raises(AdapterRefusedError, match="not finite"):
            validate_folder(folder, NARROW)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_weights_raise_only_a_refusal(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, write_adapter: MakeFolder
) -> None:
    whole = bfloat16_file(0x3F80)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    spoilt = bytearray(whole)
    spoilt[data.draw(st.integers(0, len(whole) - 9))] ^= data.draw(st.integers(1, 255))
    folder = write_adapter(tmp_path_factory.mktemp("damaged") / "adapter", 0)
    (folder / WEIGHTS).write_bytes(cut)
    with pytest.raises(AdapterRefusedError):
        validate_folder(folder, NARROW)
    (folder / WEIGHTS).write_bytes(spoilt)
    with contextlib.suppress(AdapterRefusedError):
        validate_folder(folder, NARROW)
