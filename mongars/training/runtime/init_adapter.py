"""The adapter that a run starts from: stage 1's, for stage 2.

Owns what it must be and how its weights come into a fresh model. Must not know objectives, nor where adapters
are published: a folder is handed in.
"""

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
    """Return the adapter in a folder, which a run of `recipe` on the base in `base` can start from.

    Raises InputError without the folder, AdapterRefusedError for what is no adapter of this base, or has
    another rank, alpha or other target modules than the recipe.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not there.", remedy="Name the folder of an adapter.")
    validate_folder(folder, BaseSpec(base_digest, read_shapes(base)))
    found = _lora_knobs(read_config(folder / CONFIG_FILE))
    wanted = {name: getattr(recipe, name) for name in ("lora_rank", "lora_alpha")}
    wanted |= {"target_modules": sorted(recipe.target_modules), "use_rslora": False}
    different = {name: value for name, value in found.items() if value != wanted[name]}
    if different:
        told = ", ".join(f"{name} {value}" for name, value in different.items())
        raise AdapterRefusedError(
            f"The adapter {folder.name} has {told}, unlike the recipe.",
            remedy="Give the run the adapter's lora_rank, lora_alpha and target_modules.",
        )
    return InitAdapter(folder, folder_digest(folder))


def load_into(adapted: "PeftModel", parent: InitAdapter) -> None:
    """Put the parent's weights in place of the fresh ones. Raises TrainingError when it changed since."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict  # seconds, and not on the driver
    from safetensors.torch import load_file

    if not parent.path.is_dir() or folder_digest(parent.path) != parent.digest:
        raise TrainingError(
            f"The adapter {parent.path.name} changed since the run was started.", remedy="Start it again."
        )
    weights = load_file(parent.path / ADAPTER_WEIGHTS)
    # else peft asks the hub about the base
    own = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    if weights.keys() != own.keys():
        name = parent.path.name
        raise AdapterRefusedError(f"The weights of adapter {name} are not those of its configuration.")
    set_peft_model_state_dict(adapted, weights)


def _lora_knobs(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what scales and places the weights, by the recipe's names."""
    targets = config["target_modules"]
    return {
        "lora_rank": config["r"],
        "lora_alpha": config.get("lora_alpha"),
        "target_modules": sorted(targets) if isinstance(targets, list) else targets,
        "use_rslora": bool(config.get("use_rslora")),
    }
