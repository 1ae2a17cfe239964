"""A LoRA that others made, brought into our layout without changing a value.

Owns what of peft's format is supported, the names of the tensors and the card that tells where it came from. Must
not know stores: the folder that it makes is validated and kept as any other.

Read are `adapter_model.safetensors` and `adapter_config.json` as peft writes them, on the inner model (LLM2Vec's
published form) or on the whole one; other files of the folder, a README.md say, are left behind. The names of the
tensors are changed to the layout of the wanted kind, and `target_modules` to what the weights are for.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import TensorSpec, serialize_file

from mongars.errors import AdapterRefusedError
from mongars.records import AdapterKind
from mongars.registry.base_fit import INNER, PEFT_PREFIX, Shapes, modules_of, targeted_by
from mongars.registry.card import CARD_FILE
from mongars.registry.validation import CONFIG_FILE, WEIGHTS_FILE, read_config, read_tensors, validate_folder
from mongars.storage.atomic import new_folder
from mongars.storage.digests import canonical_json_digest, file_digest

PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl")
TASKS: dict[AdapterKind, str] = {"encoder": "FEATURE_EXTRACTION", "chat": "CAUSAL_LM"}
CARRIED = ("r", "lora_alpha", "lora_dropout", "use_rslora")
"""What of peft.LoraConfig decides the output once the weights are there; dropout is kept for the record."""
REWRITTEN = ("peft_type", "task_type", "base_model_name_or_path", "target_modules", "inference_mode", "bias")
WITHOUT_EFFECT = (
    *("auto_mapping", "peft_version", "revision", "megatron_core", "qalora_group_size", "runtime_config"),
    *("exclude_modules", "layers_to_transform", "layers_pattern", "init_lora_weights"),  # the weights tell
    *("loftq_config", "eva_config"),  # read at the start of a training only
)
STARTS = (None, True, False, "gaussian", "orthogonal", "eva")
"""Values of init_lora_weights that leave the base as it is; PiSSA, OLoRA, CorDA and LoftQ change its weights."""
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def import_adapter(
    source: Path, target: Path, kind: AdapterKind, *, base_name: str, base_digest: str, base_shapes: Shapes
) -> None:
    """Write the adapter in `source` to the new folder `target`, as an adapter of `kind` on the base.

    Equal imports make equal bytes. Raises AdapterRefusedError for pickled weights, a feature of peft that is not
    supported, and whatever does not fit the base; then `target` is not there.
    """
    _require_safetensors(source)
    config = read_config(source / CONFIG_FILE)
    _refuse_unsupported(source / CONFIG_FILE, config)
    tensors = read_tensors(source / WEIGHTS_FILE)
    modules = modules_of(base_shapes, kind)
    renamed = {_in_layout(name, kind): tensor for name, tensor in tensors}
    if len(renamed) != len(tensors):
        raise AdapterRefusedError(f"{source / WEIGHTS_FILE} names a module in both layouts.")
    with new_folder(target) as folder:
        _write_tensors(folder / WEIGHTS_FILE, renamed)
        _write_json(folder / CONFIG_FILE, _our_config(config, kind, base_name, _targets(renamed, modules)))
        _write_json(folder / CARD_FILE, _card(source, config, kind, base_name, base_digest))
        validate_folder(folder, base_digest, kind, base_shapes=base_shapes)


def _require_safetensors(source: Path) -> None:
    if (source / WEIGHTS_FILE).is_file():
        return
    pickled = sorted(path.name for pattern in PICKLED for path in source.glob(pattern))
    if pickled:
        raise AdapterRefusedError(
            f"{source} has its weights in {pickled[0]}, a pickle, which can run code when it is read.",
            remedy=f"Ask its author for {WEIGHTS_FILE}, or convert it where nothing can be harmed.",
        )
    raise AdapterRefusedError(f"{source} has no {WEIGHTS_FILE}.")


def _refuse_unsupported(path: Path, config: Mapping[str, Any]) -> None:
    """Raise AdapterRefusedError, by name, for anything set in `config` that would change the output."""
    if config.get("bias", "none") != "none":
        raise AdapterRefusedError(f"{path}: bias is {config['bias']!r}; only none is supported.")
    start = config.get("init_lora_weights")
    if start not in STARTS:
        raise AdapterRefusedError(
            f"{path}: init_lora_weights is {start!r}, which changes the base's own weights.",
            remedy="Let peft convert it: save_pretrained(path_initial_model_for_weight_conversion=...).",
        )
    known = {*CARRIED, *REWRITTEN, *WITHOUT_EFFECT}
    unsupported = sorted(name for name, value in config.items() if name not in known and value)
    if unsupported:
        raise AdapterRefusedError(f"{path}: {', '.join(unsupported)} is set, which is not supported.")


def _in_layout(name: str, kind: AdapterKind) -> str:
    """Return peft's name of a tensor in the layout of `kind`; one that is no LoRA's is left to the validation."""
    module = name.removeprefix(PEFT_PREFIX)
    if module == name or module.startswith("lm_head"):
        return name
    inner = module.removeprefix(INNER)
    return PEFT_PREFIX + (inner if kind == "encoder" else INNER + inner)


def _targets(names: Mapping[str, Any], modules: Shapes) -> list[str]:
    """Return the ends of the modules' names where they say it all, else the whole names."""
    found = {name.removeprefix(PEFT_PREFIX).rsplit(".lora_", 1)[0] for name in names}
    ends = sorted({module.rsplit(".", 1)[-1] for module in found})
    return ends if targeted_by(ends, modules) == found else sorted(found)


def _our_config(
    config: Mapping[str, Any], kind: AdapterKind, base_name: str, target_modules: list[str]
) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": TASKS[kind],
        "base_model_name_or_path": base_name,
        "target_modules": target_modules,
        "inference_mode": True,
        "bias": "none",
        **{name: config[name] for name in CARRIED if name in config},
    }


def _card(
    source: Path, config: Mapping[str, Any], kind: AdapterKind, base_name: str, base_digest: str
) -> dict[str, Any]:
    recipe = {
        "imported_from": source.resolve().name,
        "made_for": config.get("base_model_name_or_path"),
        "peft_version": config.get("peft_version"),
        "weights_sha256": file_digest(source / WEIGHTS_FILE),
        "config_sha256": file_digest(source / CONFIG_FILE),
    }
    return {
        "schema": 1,
        "kind": kind,
        "objective": "imported",
        "base": base_name,
        "base_digest": base_digest,
        "dataset": None,
        "recipe": recipe,
        "recipe_digest": canonical_json_digest(recipe),
        "seed": None,
        "metrics": {},
    }


def _write_tensors(path: Path, tensors: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the tensors under their new names; their bytes are passed on, so no value can change."""
    specs, buffers = {}, []
    for name, tensor in sorted(tensors.items()):
        if tensor["dtype"] not in DTYPES:
            raise AdapterRefusedError(
                f"{name} has the type {tensor['dtype']}; expected one of {', '.join(DTYPES)}."
            )
        data = np.frombuffer(tensor["data"], dtype=np.uint8)
        buffers.append(data)  # safetensors reads from the address below: it must live until the file is written
        specs[name] = TensorSpec(
            dtype=DTYPES[tensor["dtype"]], shape=tensor["shape"], data_ptr=data.ctypes.data, data_len=data.nbytes
        )
    serialize_file(specs, path, metadata={"format": "pt"})


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
