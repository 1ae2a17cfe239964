"""The adapter of a run: LoRA on the inner model, its folder and its card.

The folder's content is a function of (recipe, dataset, base), so that equal runs have equal digests. It contains
no times, paths or run ids.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save
from torch import Tensor

from mongars.errors import TrainingError
from mongars.lm.adapters import ADAPTER_WEIGHTS
from mongars.lm.base import Base
from mongars.neurons.bidirectional import bidirectional_encoder
from mongars.records import DatasetRef
from mongars.registry.card import AdapterCard, CardDataset, write_card
from mongars.storage.atomic import new_folder
from mongars.training.config import AdapterRecipe


def adapted_encoder(base: Base, config: AdapterRecipe, base_name: str) -> PeftModel:
    """Return the base as a bidirectional encoder with fresh LoRA weights, the only trainable ones.

    Uses torch's global random generator. Raises TrainingError if the base lacks a target module, or one is not
    linear.
    """
    encoder = bidirectional_encoder(base)
    modules = {name.rsplit(".", 1)[-1] for name, _ in encoder.named_modules()}
    missing = [name for name in config.target_modules if name not in modules]
    if missing:
        raise TrainingError(
            f"{base_name} has no modules named {', '.join(missing)}.",
            remedy="Set target_modules to names of its linear layers.",
        )
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=list(config.target_modules),
        task_type="FEATURE_EXTRACTION",
    )
    try:
        adapted = get_peft_model(encoder, lora)
    except ValueError as error:  # a target module that LoRA does not support, such as a norm
        raise TrainingError(
            f"{base_name}: {str(error).partition('. ')[0]}.",
            remedy="Set target_modules to names of its linear layers.",
        ) from error
    adapted.peft_config["default"].base_model_name_or_path = base_name
    if config.recompute:
        _recompute(encoder, base_name)
    return adapted


def _recompute(encoder: Any, base_name: str) -> None:
    try:
        encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    except ValueError as error:  # raised for architectures without support
        raise TrainingError(f"{base_name} cannot recompute activations.", remedy="Set recompute=false.") from error


def adapter_card(
    config: AdapterRecipe,
    dataset: DatasetRef,
    base: Base,
    base_name: str,
    metrics: Mapping[str, float],
    *,
    resumed_from: str | None = None,
    init_from: str | None = None,
    world_sizes: Sequence[tuple[int, int]] | None = None,
) -> AdapterCard:
    """Return the card: the adapter's provenance and its final metrics.

    `resumed_from` is the digest of the checkpoint of another run that this one continued, `init_from` that of the
    adapter whose weights it started from. `world_sizes`, of an elastic run, lists (first step, workers). Raises
    TrainingError for a metric that is not finite, which JSON cannot express.
    """
    if wrong := [name for name, value in metrics.items() if not math.isfinite(value)]:
        raise TrainingError(
            f"The run ended with {', '.join(wrong)} not finite.", remedy="Train with a lower learning rate."
        )
    return AdapterCard(
        schema=1,
        kind="encoder",
        objective=config.objective,
        base=base_name,
        base_digest=base.digest,
        dataset=CardDataset(name=dataset.name, version=dataset.version, digest=dataset.digest),
        recipe=config.model_dump(mode="json"),
        recipe_digest=config.recipe_digest(),
        seed=config.seed,
        metrics=dict(metrics),
        resumed_from=resumed_from,
        init_from=init_from,
        worlds=list(world_sizes or ()) or None,
    )


def write_adapter(target: Path, adapted: PeftModel, trained: Mapping[str, Tensor], card: AdapterCard) -> None:
    """Write the folder `target` atomically, in the layout that plain peft loads on plain AutoModel.

    `trained` are the LoRA weights by the names of `adapted`'s parameters.
    """
    # without save_embedding_layers=False, peft asks the hub for the base's vocabulary
    state = get_peft_model_state_dict(adapted, state_dict=dict(trained), save_embedding_layers=False)
    with new_folder(target) as folder:
        tensors = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
        (folder / ADAPTER_WEIGHTS).write_bytes(save(tensors))  # unlike save_file, raises OSError on a full disk
        adapted.peft_config["default"].save_pretrained(str(folder))
        _sort_lists(folder / "adapter_config.json")
        write_card(folder, card)


def _sort_lists(path: Path) -> None:
    """Sort lists that peft writes from sets, whose order differs between processes."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["inference_mode"] = True  # as PeftModel.save_pretrained writes it
    config["target_modules"] = sorted(config["target_modules"])
    _write_json(path, config)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
