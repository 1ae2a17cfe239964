"""Adapters of a language model: module trees that share tensors, and LoRA files attached to one of them."""

import copy
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from mongars.errors import AdapterRefusedError
from mongars.lm.cpu.module_copy import clone_module_tree
from mongars.lm.cpu.optimize import is_optimized

Module = TypeVar("Module", bound=nn.Module)

ADAPTER_WEIGHTS = "adapter_model.safetensors"


def clone_sharing_tensors(module: Module) -> Module:
    """Return a copy of a module tree (modules, config, hooks) over the same parameters and buffers."""
    tensors = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return (
        clone_module_tree(module, tensors)
        if is_optimized(module)
        else copy.deepcopy(module, dict[int, Any](tensors))
    )


def attach_adapter(encoder: nn.Module, folder: Path) -> nn.Module:
    """Return the encoder with the LoRA adapter of `folder` in it, in eval mode.

    Changes the encoder's module tree, but no tensor that it shares. Reads safetensors only, in the layout of the
    inner model (`base_model.model.layers...`), as LLM2Vec publishes them. Raises AdapterRefusedError when a file
    is missing, does not fit this model, or does not fill the adapter.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    check_adapter_files(folder)
    try:
        with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as stored:
            names = set(stored.keys())
        adapted: nn.Module = PeftModel.from_pretrained(encoder, str(folder))
    except (SafetensorError, ValueError, RuntimeError, TypeError) as error:
        # raised by peft and torch for wrong configurations, other shapes and damaged files
        raise AdapterRefusedError(f"The adapter {folder.name} does not fit the base model: {error}") from error
    own = get_peft_model_state_dict(
        adapted, save_embedding_layers=False
    )  # otherwise peft asks the hub about the base
    if names != set(own):
        raise AdapterRefusedError(f"The weights of adapter {folder.name} are not those of its configuration.")
    return adapted.eval()


def check_adapter_files(folder: Path) -> None:
    """Raise AdapterRefusedError unless weights and configuration exist: peft would ask the hub for them."""
    for name in (ADAPTER_WEIGHTS, "adapter_config.json"):
        if not (folder / name).is_file():
            raise AdapterRefusedError(f"The adapter folder {folder.name} has no {name}.")
