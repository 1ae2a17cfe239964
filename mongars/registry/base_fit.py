"""Whether a LoRA fits a base model: compares the tensor names and shapes of both.

Only the headers of the base's safetensors are read, so its size does not matter.

peft names a tensor `base_model.model.<module>.lora_A.weight`. For an encoder, `<module>` is relative to the inner
model (`layers.0...`); for a chat adapter, to the whole model (`model.layers.0...`).
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mongars.errors import AdapterRefusedError, InputError, ModelNotFoundError
from mongars.lm.base_files import base_model_digest
from mongars.records import AdapterKind

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
PEFT_PREFIX = "base_model.model."
INNER = "model."
"""Prefix of the inner model in causal checkpoints of transformers (Llama, Mistral, Qwen3 and similar)."""
MATRIX = 2
NARROWED = ("exclude_modules", "layers_to_transform", "layers_pattern")
"""Options of peft.LoraConfig that exclude some of the modules in `target_modules`."""


@dataclass(frozen=True, slots=True)
class BaseSpec:
    """What an adapter must match of its base model: the digest of its files and the shapes of its tensors."""

    digest: str
    shapes: Shapes

    @classmethod
    def of(cls, base: Path) -> "BaseSpec":
        """Read a base model's folder. Raises as `read_shapes`."""
        return cls(base_model_digest(base), read_shapes(base))


def read_shapes(base: Path) -> Shapes:
    """Return the shape of every tensor in a base model's folder, by name.

    Raises ModelNotFoundError for a folder without safetensors, InputError for a damaged file.
    """
    files = sorted(base.glob("*.safetensors"))
    if not files:
        raise ModelNotFoundError(f"{base} has no safetensors.", remedy="Set MONGARS_BASE_MODEL.")
    shapes: dict[str, Shape] = {}
    for path in files:
        try:
            with safe_open(path, framework="numpy") as header:
                shapes |= {name: tuple(header.get_slice(name).get_shape()) for name in header.keys()}  # noqa: SIM118 (no mapping)
        except SafetensorError as error:
            raise InputError(f"{path} is not a whole safetensors file: {error}.") from None
    return shapes


def modules_of(base_shapes: Shapes, kind: AdapterKind) -> dict[str, Shape]:
    """Return the [out, in] shapes of the base's matrices, by the module's name in an adapter of `kind`."""
    whole = any(name.startswith(INNER) for name in base_shapes)  # otherwise the checkpoint is the inner model only
    matrices = {
        name.removesuffix(".weight"): shape
        for name, shape in base_shapes.items()
        if name.endswith(".weight") and len(shape) == MATRIX
    }
    if kind == "chat":
        return matrices if whole else {INNER + name: shape for name, shape in matrices.items()}
    if not whole:
        return matrices
    return {name.removeprefix(INNER): shape for name, shape in matrices.items() if name.startswith(INNER)}


def check_fit(
    weights: Path, pairs: Mapping[str, tuple[Shape, Shape]], config: Mapping[str, Any], modules: Shapes
) -> None:
    """Raise AdapterRefusedError unless the LoRA pairs fit their modules and cover what `config` targets.

    `pairs` are the shapes of (A, B) by peft's name of the module: A is [r, in] and B is [out, r] for a weight of
    [out, in] (arXiv 2106.09685). `modules` come from `modules_of`; error messages name the file `weights`.
    """
    found: set[str] = set()
    for full_name, (a, b) in pairs.items():
        name = full_name.removeprefix(PEFT_PREFIX)
        if name == full_name or name not in modules:
            raise AdapterRefusedError(
                f"{weights}: the base has no module {full_name}{_other_layout(name, modules)}.",
                remedy="Convert an adapter trained elsewhere with: mongars adapters import",
            )
        out_features, in_features = modules[name]
        if a[1] != in_features or b[0] != out_features:
            raise AdapterRefusedError(
                f"{weights}: {full_name} has A {list(a)} and B {list(b)}, "
                f"but the base's weight is {[out_features, in_features]}."
            )
        found.add(name)
    _check_targets(weights, found, config, modules)


def _other_layout(name: str, modules: Shapes) -> str:
    if name.removeprefix(INNER) in modules:
        return " in the inner layout that an encoder has; these keys are of the whole model"
    if INNER + name in modules:
        return " in the layout of the whole model that a chat adapter has; these keys are of the inner model"
    return ""


def _check_targets(weights: Path, found: set[str], config: Mapping[str, Any], modules: Shapes) -> None:
    targeted = targeted_by(config.get("target_modules"), modules)
    stray = sorted(found - targeted)
    if stray:
        raise AdapterRefusedError(f"{weights}: target_modules of the configuration do not name {stray[0]}.")
    missing = sorted(targeted - found)
    if missing and not any(config.get(key) for key in NARROWED):
        raise AdapterRefusedError(f"{weights} has no weights for {missing[0]}, which target_modules name.")


def targeted_by(target_modules: object, modules: Collection[str]) -> set[str]:
    """Return the modules that peft would wrap: a list has names or their last parts, a string is a regex."""
    if isinstance(target_modules, str):
        try:
            return {name for name in modules if re.fullmatch(target_modules, name)}
        except re.error:
            return set()
    if not isinstance(target_modules, list):
        return set()
    return {name for name in modules if any(name == end or name.endswith(f".{end}") for end in target_modules)}
