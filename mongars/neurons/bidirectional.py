"""A causal decoder read as a bidirectional encoder (LLM2Vec, arXiv 2404.05961), shared by training and serving.

Owns the module tree of an encoder: a copy over the base's tensors, non-causal, proven, with an adapter or without.
The causal one is there to be compared with. Must not know batches, tokenizers or pooling.

The forward pass of transformers changes `config` while it runs, so causality is set once, on a tree with a
config of its own: the base beside it stays causal, and each tree has one caller at a time.
"""

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from mongars.errors import AdapterRefusedError, TrainingError
from mongars.neurons.base import Base
from mongars.neurons.tree_copy import copy_tree

Module = TypeVar("Module", bound=nn.Module)

PROOF_TOKENS = 8
ADAPTER_WEIGHTS = "adapter_model.safetensors"


def share_tensors_copy(module: Module) -> Module:
    """Return a module tree of its own (modules, config, hooks) over the same parameters and buffers."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy_tree(module, {id(tensor): tensor for tensor in tensors})


def causal_encoder(base: Base) -> nn.Module:
    """Return the base's inner model as it is, in a tree of its own; adapters are not trained for it."""
    return share_tensors_copy(_inner(base.model)).eval()


def bidirectional_encoder(base: Base) -> nn.Module:
    """Return the base's inner model as a bidirectional encoder: no tensor is copied and the base stays causal.

    Its forward takes input_ids and attention_mask [batch, tokens] and gives `last_hidden_state`
    [batch, tokens, hidden]. Raises TrainingError for an architecture that stays causal.
    """
    encoder = causal_encoder(base)
    config: Any = encoder.config
    config.is_causal = False
    prove_bidirectional(encoder)
    return encoder


@torch.no_grad()
def prove_bidirectional(encoder: nn.Module) -> None:
    """Raise TrainingError, with the model's name, unless changing the later tokens changes the first state.

    An encoder that silently stays causal is this field's most repeated bug, so every one is tried. All later
    tokens are changed, because a sliding window may show the first state its nearest neighbours only.
    """
    config: Any = encoder.config
    device = next(encoder.parameters()).device
    first = torch.arange(PROOF_TOKENS, device=device).remainder(config.vocab_size).unsqueeze(0)
    second = first.clone()
    second[0, 1:] = config.vocab_size - 1
    mask = torch.ones_like(first)
    was_training = encoder.training
    encoder.eval()  # dropout would change the states by itself
    states = [
        encoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state for ids in (first, second)
    ]
    encoder.train(was_training)
    if torch.equal(states[0][0, 0], states[1][0, 0]):
        raise TrainingError(
            f"{config.model_type} stays causal: a later token does not change an earlier state.",
            remedy="Use a base of another architecture, such as Llama, Qwen3 or Mistral.",
        )


def attach_adapter(encoder: nn.Module, folder: Path) -> nn.Module:
    """Return the encoder with the LoRA adapter of `folder` in it, in eval mode.

    The encoder's own module tree is changed; tensors that it shares with others are not. Reads safetensors
    only, in the layout of the inner model (`base_model.model.layers...`), as LLM2Vec publishes them.
    Raises AdapterRefusedError when a file is missing, does not fit this model, or does not fill the adapter.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    check_adapter_files(folder)
    try:
        with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as stored:
            names = set(stored.keys())
        adapted: nn.Module = PeftModel.from_pretrained(encoder, str(folder))
    except (SafetensorError, ValueError, RuntimeError, TypeError) as error:
        # peft and torch answer a wrong configuration, other shapes and damaged files with these
        raise AdapterRefusedError(f"The adapter {folder.name} does not fit the base model: {error}") from error
    own = get_peft_model_state_dict(adapted, save_embedding_layers=False)  # else peft asks the hub about the base
    if names != set(own):
        raise AdapterRefusedError(f"The weights of adapter {folder.name} are not those of its configuration.")
    return adapted.eval()


def check_adapter_files(folder: Path) -> None:
    """Raise AdapterRefusedError unless weights and configuration are there: peft would ask the hub for them."""
    for name in (ADAPTER_WEIGHTS, "adapter_config.json"):
        if not (folder / name).is_file():
            raise AdapterRefusedError(f"The adapter folder {folder.name} has no {name}.")


def _inner(model: nn.Module) -> nn.Module:
    """Return the decoder without its language-model head."""
    inner = model.base_model
    if not isinstance(inner, nn.Module) or inner is model:
        raise TrainingError(f"{type(model).__name__} has no inner model.", remedy="Use a causal language model.")
    return inner
