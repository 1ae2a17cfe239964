"""Templates of adapters: peft attaches the first adapter of a configuration, and the next ones fill its form.

Successive versions of a trained adapter usually have equal configurations. What a configuration means is left to
peft: the template copies the layers that peft made.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from mongars.errors import AdapterRefusedError
from mongars.lm.adapters import ADAPTER_WEIGHTS, check_adapter_files, clone_sharing_tensors
from mongars.lm.lora import PEFT_NAME, LoraLinear

# Fields about the origin and training of an adapter; the others determine its forward pass.
_ORIGIN_FIELDS = {
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "lora_dropout",
    "peft_version",
    "auto_mapping",
}
_PEFT_PREFIX = "base_model.model."
"""peft's prefix of module names, in a tree and in a file."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """The adaptation of one linear layer. Shapes are [r, in] and [out, r]."""

    a_shape: torch.Size
    b_shape: torch.Size
    dtype: torch.dtype
    scaling: float


class AdapterTemplate:
    """The form of an adapter over a tree without one. `filled` may be called while other trees are in use."""

    def __init__(self, bare: nn.Module, config: dict[str, Any], layers: Mapping[str, _Layer]) -> None:
        self._bare, self._config, self._layers = bare, config, layers

    @classmethod
    def of(cls, bare: nn.Module, adapted: nn.Module) -> Self | None:
        """Return the form of a tree that `attach_adapter` made from a copy of `bare`, without its tensors.

        Returns None when the adapter is more than LoRA in linear layers.
        """
        layers, known = dict[str, _Layer](), set(map(id, _tensors(bare)))
        plain = dict(bare.named_modules())
        for name, module in adapted.named_modules():
            layer = LoraLinear.of_peft(module)
            path = name.removeprefix(_PEFT_PREFIX)
            if layer is None or getattr(plain.get(path), "weight", None) is not layer.base_layer.weight:
                continue
            known |= {id(module.lora_A[PEFT_NAME].weight), id(module.lora_B[PEFT_NAME].weight)}
            layers[path] = _Layer(layer.lora_a.shape, layer.lora_b.shape, layer.lora_a.dtype, layer.scaling)
        config: Any = adapted.peft_config
        if not all(id(tensor) in known for tensor in _tensors(adapted)):
            return None
        return cls(bare, _form(config[PEFT_NAME]), layers)

    def fits(self, folder: Path) -> bool:
        """Return whether the adapter in a folder has this configuration.

        Raises AdapterRefusedError when a file is missing.
        """
        from peft import PeftConfig

        check_adapter_files(folder)
        return _form(PeftConfig.from_pretrained(str(folder))) == self._config

    def filled(self, folder: Path) -> nn.Module:
        """Return a tree with the adapter of a folder that `fits`; it computes what `attach_adapter` gives.

        Raises AdapterRefusedError for weights that cannot be read or have other shapes.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            weights = load_file(folder / ADAPTER_WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise AdapterRefusedError(f"The weights of adapter {folder.name} cannot be read: {error}") from error
        names = {path: tuple(f"{_PEFT_PREFIX}{path}.lora_{half}.weight" for half in "AB") for path in self._layers}
        shapes = {
            name: shape
            for path, layer in self._layers.items()
            for name, shape in zip(names[path], (layer.a_shape, layer.b_shape), strict=True)
        }
        if shapes != {name: tensor.shape for name, tensor in weights.items()}:
            raise AdapterRefusedError(f"The weights of adapter {folder.name} are not those of its configuration.")
        tree = clone_sharing_tensors(self._bare)
        for path, layer in self._layers.items():
            parent, _, name = path.rpartition(".")
            owner = tree.get_submodule(parent)
            own: nn.Linear = getattr(owner, name)
            a, b = (weights[each].to(own.weight.device, layer.dtype) for each in names[path])
            setattr(owner, name, LoraLinear(own, a, b, layer.scaling).eval())
        return tree


def _tensors(tree: nn.Module) -> list[torch.Tensor]:
    return [*tree.parameters(), *tree.buffers()]


def _form(config: Any) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name not in _ORIGIN_FIELDS}
