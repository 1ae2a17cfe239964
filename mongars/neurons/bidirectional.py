"""A causal decoder used as a bidirectional encoder (LLM2Vec, arXiv 2404.05961), shared by training and serving.

An encoder is a copy of the base's module tree over the same tensors. The forward pass of transformers changes
`config` while it runs. So causality is set once, in the copy's own config: the base stays causal, and each tree
has one caller at a time.
"""

from typing import Any

import torch
from torch import nn

from mongars.errors import TrainingError
from mongars.lm.adapters import clone_sharing_tensors
from mongars.lm.base import Base

CHECK_TOKENS = 8


def causal_encoder(base: Base) -> nn.Module:
    """Return the base's inner model in its own tree, for comparison; adapters are not trained for it."""
    return clone_sharing_tensors(_inner(base.model)).eval()


def bidirectional_encoder(base: Base) -> nn.Module:
    """Return the base's inner model as a bidirectional encoder; no tensor is copied and the base stays causal.

    It takes input_ids and attention_mask [batch, tokens] and returns `last_hidden_state` [batch, tokens, hidden].
    Raises TrainingError for an architecture that stays causal.
    """
    encoder = causal_encoder(base)
    config: Any = encoder.config
    config.is_causal = False
    check_bidirectional(encoder)
    return encoder


@torch.no_grad()
def check_bidirectional(encoder: nn.Module) -> None:
    """Raise TrainingError, with the model's name, unless changing the later tokens changes the first state.

    An encoder that silently stays causal is a common bug in this field, so every encoder is checked. All later
    tokens change, because a sliding window may reach only the nearest ones.
    """
    config: Any = encoder.config
    device = next(encoder.parameters()).device
    first = torch.arange(CHECK_TOKENS, device=device).remainder(config.vocab_size).unsqueeze(0)
    second = first.clone()
    second[0, 1:] = config.vocab_size - 1
    mask = torch.ones_like(first)
    was_training = encoder.training
    encoder.eval()  # dropout would change the states
    states = [
        encoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state for ids in (first, second)
    ]
    encoder.train(was_training)
    if torch.equal(states[0][0, 0], states[1][0, 0]):
        raise TrainingError(
            f"{config.model_type} stays causal: a later token does not change an earlier state.",
            remedy="Use a base of another architecture, such as Llama, Qwen3 or Mistral.",
        )


def _inner(model: nn.Module) -> nn.Module:
    """Return the decoder without its language-model head."""
    inner = model.base_model
    if not isinstance(inner, nn.Module) or inner is model:
        raise TrainingError(f"{type(model).__name__} has no inner model.", remedy="Use a causal language model.")
    return inner
