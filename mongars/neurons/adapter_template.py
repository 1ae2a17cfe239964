"""A module tree with an adapter whose weights are left out, from which trees with other weights are made.

Owns the quick way to attach an adapter that is configured as one before it was, which is how a trained adapter
follows another: peft builds a tree of a small model in 75 ms of processor time, loading by a copy of one 18
(docs/results/2026-11-26-serving.md and 2026-11-27). Must not know slots or which adapter is served.
"""

from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from mongars.errors import AdapterRefusedError
from mongars.neurons.bidirectional import ADAPTER_WEIGHTS, check_adapter_files
from mongars.neurons.tree_copy import copy_tree

# Where an adapter was made and how it was trained; what is left says what a forward pass does.
_ELSEWHERE = {
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "lora_dropout",
    "peft_version",
    "auto_mapping",
}


class AdapterTemplate:
    """A tree of its own over the base's tensors. `filled` may be called while other trees are at work."""

    def __init__(self, tree: nn.Module, config: dict[str, Any]) -> None:
        self._tree, self._config = tree, config

    @classmethod
    def of(cls, adapted: nn.Module) -> Self:
        """Take the form of a tree as `attach_adapter` returns it, and none of its adapter's memory."""
        without = {
            id(tensor): nn.Parameter(torch.empty_like(tensor, device="meta"), requires_grad=tensor.requires_grad)
            if "lora_" in name
            else tensor
            for name, tensor in _tensors(adapted)
        }
        config: Any = adapted.peft_config
        return cls(copy_tree(adapted, without), _form(config["default"]))

    def fits(self, folder: Path) -> bool:
        """Return whether the adapter in a folder is configured as this one.

        Raises AdapterRefusedError where a file is missing.
        """
        from peft import PeftConfig

        check_adapter_files(folder)
        return _form(PeftConfig.from_pretrained(str(folder))) == self._config

    def filled(self, folder: Path) -> nn.Module:
        """Return a tree with the adapter of a folder that `fits`, as `attach_adapter` would. Raises as it does."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            weights = load_file(folder / ADAPTER_WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise AdapterRefusedError(f"The weights of adapter {folder.name} cannot be read: {error}") from error
        tensors = dict(_tensors(self._tree))
        stored = {name: name.replace(".default", "") for name, tensor in tensors.items() if tensor.is_meta}
        same = set(stored.values()) == set(weights)
        if not same or any(weights[key].shape != tensors[name].shape for name, key in stored.items()):
            raise AdapterRefusedError(f"The weights of adapter {folder.name} are not those of its configuration.")
        memo: dict[int, torch.Tensor] = {id(tensor): tensor for tensor in tensors.values()}
        device = next(tensor.device for tensor in tensors.values() if not tensor.is_meta)
        for name, key in stored.items():
            empty = tensors[name]
            own = weights[key].to(device, empty.dtype)
            memo[id(empty)] = nn.Parameter(own, requires_grad=empty.requires_grad)
        return copy_tree(self._tree, memo)


def _tensors(tree: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*tree.named_parameters(), *tree.named_buffers()]


def _form(config: Any) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name not in _ELSEWHERE}
