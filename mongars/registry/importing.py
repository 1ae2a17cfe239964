"""Imports a LoRA that was trained elsewhere, without changing a value.

Reads `adapter_model.safetensors` and `adapter_config.json` as peft writes them, of the inner model (as LLM2Vec
publishes them) or of the whole one, and ignores other files. Tensors get the names of the wanted kind's layout,
and `target_modules` names the modules that have weights.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import TensorSpec, serialize_file

from mongars.errors import AdapterRefusedError
from mongars.records import AdapterKind
from mongars.registry.base_fit import INNER, PEFT_PREFIX, BaseSpec, Shapes, modules_of, targeted_by
from mongars.registry.card import AdapterCard, write_card
from mongars.registry.validation import CONFIG_FILE, WEIGHTS_FILE, read_config, read_tensors, validate_folder
from mongars.storage.atomic import new_folder
from mongars.storage.digests import canonical_json_digest, file_digest

PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl")
TASKS: dict[AdapterKind, str] = {"encoder": "FEATURE_EXTRACTION", "chat": "CAUSAL_LM"}
CARRIED = ("r", "lora_alpha", "lora_dropout", "use_rslora")
"""Options of peft.LoraConfig that determine the output of given weights; dropout is kept as provenance."""
REWRITTEN = ("peft_type", "task_type", "base_model_name_or_path", "target_modules", "inference_mode", "bias")
WITHOUT_EFFECT = (
    *("auto_mapping", "peft_version", "revision", "megatron_core", "qalora_group_size", "runtime_config"),
    *("exclude_modules", "layers_to_transform", "layers_pattern", "init_lora_weights"),  # the weights show it
    *("loftq_config", "eva_config"),  # used only to initialise a training
)
STARTS = (None, True, False, "gaussian", "orthogonal", "eva")
"""Values of init_lora_weights that keep the base's weights; PiSSA, OLoRA, CorDA and LoftQ change them."""
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def import_adapter(source: Path, target: Path, kind: AdapterKind, base: BaseSpec, *, base_name: str) -> None:
    """Write the adapter in `source` to the new folder `target`, as an adapter of `kind` for `base`.

    Equal imports write equal bytes. Raises AdapterRefusedError for pickled weights, unsupported features of peft
    and weights that do not fit the base; `target` is then not created.
    """
    _require_safetensors(source)
    config = read_config(source / CONFIG_FILE)
    _refuse_unsupported(source / CONFIG_FILE, config)
    tensors = read_tensors(source / WEIGHTS_FILE)
    modules = modules_of(base.shapes, kind)
    renamed = {_in_layout(name, kind): tensor for name, tensor in tensors}
    if len(renamed) != len(tensors):
        raise AdapterRefusedError(f"{source / WEIGHTS_FILE} names a module in both layouts.")
    with new_folder(target) as folder:
        _write_tensors(folder / WEIGHTS_FILE, renamed)
        _write_json(folder / CONFIG_FILE, _our_config(config, kind, base_name, _targets(renamed, modules)))
        write_card(folder, _card(source, config, kind, base_name, base.digest))
        validate_folder(folder, base, kind)


def _require_safetensors(source: Path) -> None:
    if (source / WEIGHTS_FILE).is_file():
        return
    pickled = sorted(path.name for pattern in PICKLED for path in source.glob(pattern))
    if pickled:
        raise AdapterRefusedError(
            f"{source} has its weights in {pickled[0]}, a pickle, which can run code when it is loaded.",
            remedy=f"Ask its author for {WEIGHTS_FILE}, or convert it in an isolated environment.",
        )
    raise AdapterRefusedError(f"{source} has no {WEIGHTS_FILE}.")


def _refuse_unsupported(path: Path, config: Mapping[str, Any]) -> None:
    """Raise AdapterRefusedError for an unsupported option in `config` that would change the output."""
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
    """Return a tensor's name in the layout of `kind`; the validation refuses tensors that are not LoRA's."""
    module = name.removeprefix(PEFT_PREFIX)
    if module == name or module.startswith("lm_head"):
        return name
    inner = module.removeprefix(INNER)
    return PEFT_PREFIX + (inner if kind == "encoder" else INNER + inner)


def _targets(names: Mapping[str, Any], modules: Shapes) -> list[str]:
    """Return the last parts of the modules' names if they match no other module, otherwise the full names."""
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
) -> AdapterCard:
    recipe = {
        "imported_from": source.resolve().name,
        "made_for": config.get("base_model_name_or_path"),
        "peft_version": config.get("peft_version"),
        "weights_sha256": file_digest(source / WEIGHTS_FILE),
        "config_sha256": file_digest(source / CONFIG_FILE),
    }
    return AdapterCard(
        schema=1,
        kind=kind,
        objective="imported",
        base=base_name,
        base_digest=base_digest,
        dataset=None,
        recipe=recipe,
        recipe_digest=canonical_json_digest(recipe),
        seed=None,
        metrics={},
    )


def _write_tensors(path: Path, tensors: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the tensors under their new names, copying their bytes."""
    specs, buffers = {}, []
    for name, tensor in sorted(tensors.items()):
        if tensor["dtype"] not in DTYPES:
            raise AdapterRefusedError(
                f"{name} has the type {tensor['dtype']}; expected one of {', '.join(DTYPES)}."
            )
        data = np.frombuffer(tensor["data"], dtype=np.uint8)
        buffers.append(data)  # keeps the address below valid until the file is written
        specs[name] = TensorSpec(
            dtype=DTYPES[tensor["dtype"]], shape=tensor["shape"], data_ptr=data.ctypes.data, data_len=data.nbytes
        )
    serialize_file(specs, path, metadata={"format": "pt"})


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
