"""Which stored tokens each new token may attend to.

Owns causality and sliding windows. Must not know what is stored. Masks are bool, True where attention is allowed,
and four-dimensional, which transformers takes as they are.
"""

from typing import Any

import torch
from torch import Tensor

from mongars.errors import SettingsError

FULL, SLIDING = "full_attention", "sliding_attention"

Mask = Tensor | dict[str, Tensor]


def attention_mask(config: Any, positions: Tensor, length: int) -> Mask:
    """Return the mask of new tokens at `positions`, int64 [rows, tokens], over `length` stored ones.

    bool [rows, 1, tokens, length]; for a model that mixes kinds of layers, one mask for each kind, by its name.
    Raises SettingsError for a kind of attention that is neither full nor sliding.
    """
    kinds = set(getattr(config, "layer_types", None) or ())
    if unknown := kinds - {FULL, SLIDING}:
        raise SettingsError(
            f"{config.model_type} has layers of {', '.join(sorted(unknown))}.",
            remedy="Set MONGARS_BASE_MODEL to a model with full or sliding attention.",
        )
    window = getattr(config, "sliding_window", None)
    if len(kinds) > 1:
        return {FULL: _mask(positions, length, None), SLIDING: _mask(positions, length, window)}
    # Without layer types, a window that is set counts for every layer (Mistral, Phi3).
    return _mask(positions, length, None if kinds == {FULL} else window)


def _mask(positions: Tensor, length: int, window: int | None) -> Tensor:
    stored = torch.arange(length, device=positions.device)
    new = positions[:, None, :, None]
    allowed = stored <= new
    return allowed if window is None else allowed & (stored > new - window)
