"""The adapter whose weights a run starts from: for stage 2, that of stage 1."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mongars.errors import AdapterRefusedError, InputError, TrainingError
from mongars.lm.adapters import ADAPTER_WEIGHTS
from mongars.registry import BaseSpec, read_shapes
from mongars.registry.validation import CONFIG_FILE, read_config, validate_folder
from mongars.storage.digests import folder_digest
from mongars.training.config import AdapterRecipe
from mongars.training.runtime.job import InitAdapter

if TYPE_CHECKING:
    from peft import PeftModel


def find_init_adapter(folder: Path, recipe: AdapterRecipe, base: Path, base_digest: str) -> InitAdapter:
    """Return the adapter in a folder, after a check that it fits the base and the recipe.

    Raises InputError without the folder, and AdapterRefusedError if it is no adapter of this base or differs from
    the recipe in rank, alpha or target modules.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist.", remedy="Name the folder of an adapter.")
    validate_folder(folder, BaseSpec(base_digest, read_shapes(base)))
    found = _lora_options(read_config(folder / CONFIG_FILE))
    wanted = {name: getattr(recipe, name) for name in ("lora_rank", "lora_alpha")}
    wanted |= {"target_modules": sorted(recipe.target_modules), "use_rslora": False}
    different = {name: value for name, value in found.items() if value != wanted[name]}
    if different:
        listed = ", ".join(f"{name} {value}" for name, value in different.items())
        raise AdapterRefusedError(
            f"The adapter {folder.name} has {listed}, unlike the recipe.",
            remedy="Use the adapter's lora_rank, lora_alpha and target_modules.",
        )
    return InitAdapter(folder, folder_digest(folder))


def load_into(adapted: "PeftModel", source: InitAdapter) -> None:
    """Replace the fresh LoRA weights by those of an adapter. Raises TrainingError if it has changed since."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict  # slow, and not needed on the driver
    from safetensors.torch import load_file

    if not source.path.is_dir() or folder_digest(source.path) != source.digest:
        raise TrainingError(
            f"The adapter {source.path.name} changed since the run started.", remedy="Start it again."
        )
    weights = load_file(source.path / ADAPTER_WEIGHTS)
    # without save_embedding_layers=False, peft asks the hub about the base
    own = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    if weights.keys() != own.keys():
        name = source.path.name
        raise AdapterRefusedError(f"The weights of adapter {name} do not match its configuration.")
    set_peft_model_state_dict(adapted, weights)


def _lora_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that must equal the recipe's, by its names."""
    targets = config["target_modules"]
    return {
        "lora_rank": config["r"],
        "lora_alpha": config.get("lora_alpha"),
        "target_modules": sorted(targets) if isinstance(targets, list) else targets,
        "use_rslora": bool(config.get("use_rslora")),
    }
