"""Checks an adapter folder before it is accepted. Nothing in it is executed or unpickled."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, deserialize

from mongars.errors import AdapterRefusedError
from mongars.records import AdapterKind
from mongars.registry.base_fit import MATRIX, BaseSpec, Shape, check_fit, modules_of
from mongars.registry.card import CARD_FILE, AdapterCard, read_card

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
ADAPTER_FILES = (WEIGHTS_FILE, CONFIG_FILE, CARD_FILE)

# peft's names of LoRA tensors in a saved adapter (peft.utils.save_and_load.get_peft_model_state_dict).
LORA_KEY = re.compile(r"(?P<module>[\w.]+)\.lora_(?P<side>A|B)\.weight")
# Floating types of LoRA weights by their names in safetensors, a little-endian format.
FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
BF16_EXPONENT = 0x7F80  # all exponent bits set: infinity or NaN (bfloat16 is the upper half of a float32)


def validate_folder(folder: Path, base: BaseSpec, kind: AdapterKind = "encoder") -> AdapterCard:
    """Check that a folder is an adapter of `kind` for `base`, and return its card.

    Raises AdapterRefusedError for unexpected or missing files, an incomplete card or configuration, another kind
    or base model, damaged weights, tensors that are not LoRA's, values that are not finite, and modules or shapes
    that the base lacks.
    """
    check_files(folder)
    card = read_card(folder)
    if card.kind != kind:
        raise AdapterRefusedError(f"{folder} is of kind {card.kind}, not {kind}.")
    if card.base_digest != base.digest:
        raise AdapterRefusedError(
            f"{folder} was trained on the base {card.base_digest[:12]}, but {base.digest[:12]} is served.",
            remedy="Train it again on the served base, or serve its base (MONGARS_BASE_MODEL).",
        )
    config = read_config(folder / CONFIG_FILE)
    pairs = read_pairs(folder / WEIGHTS_FILE, rank=_rank(folder / CONFIG_FILE, config))
    check_fit(folder / WEIGHTS_FILE, pairs, config, modules_of(base.shapes, kind))
    return card


def check_files(folder: Path) -> None:
    """Raise AdapterRefusedError unless `folder` contains exactly the three files of an adapter."""
    if not folder.is_dir():
        raise AdapterRefusedError(f"{folder} is not a folder.")
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_file():
            raise AdapterRefusedError(f"{path} is not a regular file.")
        if path.name not in ADAPTER_FILES:
            raise AdapterRefusedError(f"{folder} has {path.name}; only {', '.join(ADAPTER_FILES)} are accepted.")
    for name in ADAPTER_FILES:
        if not (folder / name).is_file():
            raise AdapterRefusedError(f"{folder} has no {name}.")


def read_config(path: Path) -> dict[str, Any]:
    """Return peft's configuration of an adapter. Raises AdapterRefusedError unless it is of a LoRA."""
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise AdapterRefusedError(f"{path} is not JSON: {error}.") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise AdapterRefusedError(f"{path}: peft_type is not LORA.")
    return config


def _rank(path: Path, config: Mapping[str, Any]) -> int:
    if config.get("rank_pattern"):
        raise AdapterRefusedError(f"{path}: rank_pattern is set; one rank for all modules is supported.")
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise AdapterRefusedError(f"{path}: r is {rank!r}, not a positive whole number.")
    return rank


def read_pairs(path: Path, rank: int) -> dict[str, tuple[Shape, Shape]]:
    """Return the shapes of (A, B) by peft's name of the module.

    A is [r, in features], B is [out features, r] (LoRA, arXiv 2106.09685). Raises AdapterRefusedError for weights
    that are not a complete LoRA of `rank`.
    """
    sides: dict[str, dict[str, Shape]] = {}
    for name, tensor in read_tensors(path):
        key = LORA_KEY.fullmatch(name)
        if key is None:
            raise AdapterRefusedError(f"{path}: {name} is not a LoRA tensor.")
        shape = tuple(tensor["shape"])
        if len(shape) != MATRIX or shape[0 if key["side"] == "A" else 1] != rank:
            raise AdapterRefusedError(f"{path}: {name} has the shape {list(shape)}, not that of rank {rank}.")
        if not _all_finite(path, name, tensor):
            raise AdapterRefusedError(f"{path}: {name} has a value that is not finite.")
        sides.setdefault(key["module"], {})[key["side"]] = shape
    half = next((module for module, found in sides.items() if len(found) != len("AB")), None)
    if half is not None:
        raise AdapterRefusedError(f"{path}: {half} has only one of lora_A and lora_B.")
    return {module: (found["A"], found["B"]) for module, found in sides.items()}


def read_tensors(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Return (name, {dtype, shape, data}) of every tensor of a safetensors file, the data as raw bytes.

    Raises AdapterRefusedError for a file without tensors and for one that safetensors rejects: a header that is
    too long or not JSON, or offsets that overlap, leave gaps, or disagree with the shapes or the file's length.
    """
    try:
        tensors: list[tuple[str, Mapping[str, Any]]] = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]  # no stubs
    except SafetensorError as error:
        raise AdapterRefusedError(f"{path} is not a whole safetensors file: {error}.") from None
    if not tensors:
        raise AdapterRefusedError(f"{path} has no tensor.")
    return tensors


def _all_finite(path: Path, name: str, tensor: Mapping[str, Any]) -> bool:
    dtype = tensor["dtype"]
    if dtype not in FLOATS:
        raise AdapterRefusedError(f"{path}: {name} has the type {dtype}; expected one of {', '.join(FLOATS)}.")
    values: npt.NDArray[Any] = np.frombuffer(tensor["data"], dtype=FLOATS[dtype])
    if dtype == "BF16":
        return not bool(((values & BF16_EXPONENT) == BF16_EXPONENT).any())
    return bool(np.isfinite(values).all())
