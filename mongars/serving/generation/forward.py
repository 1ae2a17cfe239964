"""Forward passes of a model over the rows of a KV cache: prefill of prompts, and decode of one token a row.

`TransformersForward` runs every architecture; `LlamaForward` (llama.py) runs the common ones in fewer operations.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mongars.errors import SettingsError
from mongars.lm.architecture import is_like_llama
from mongars.serving.generation.kv_cache import KVCache
from mongars.serving.generation.llama import LlamaForward

FULL, SLIDING = "full_attention", "sliding_attention"


class Forward(Protocol):
    """A model with a KV cache, in which a caller reserves the rows of a pass before it."""

    cache: KVCache

    def prefill(self, prompts: Sequence[Sequence[int]], *, first_row: int, start: int) -> Tensor:
        """Write prompts to the rows from `first_row`, each from position `start`.

        Returns the logits after the last token of each prompt, [prompts, vocabulary].
        """
        ...

    def decode(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Write one token to each row from the first; return the logits after it, [rows, vocabulary]."""
        ...

    def pass_tokens(self, lengths: Sequence[int]) -> int:
        """Return how many tokens, padding included, a prefill of prompts of these lengths computes."""
        ...


def forward_of(model: nn.Module) -> Forward:
    """Return the forward passes of a causal language model, with or without an adapter."""
    return LlamaForward(model) if is_like_llama(model) else TransformersForward(model)


class TransformersForward:
    """The model's own forward pass, with prompts padded to the longest."""

    def __init__(self, model: nn.Module) -> None:
        self.cache = KVCache()
        self._model = model
        self._config: Any = model.config
        self._device = next(model.parameters()).device

    def prefill(self, prompts: Sequence[Sequence[int]], *, first_row: int, start: int) -> Tensor:
        length = max(map(len, prompts))
        ids = torch.zeros(len(prompts), length, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(prompt)
        positions = torch.arange(start, start + length).expand(len(prompts), -1)
        self.cache.set_write_span(first_row, len(prompts), start, start + length)
        return self._pass(ids, positions, start + length, keep=[len(prompt) - 1 for prompt in prompts])

    def decode(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        at = torch.tensor(positions)
        length = max(positions) + 1
        self.cache.set_write_positions(at.to(self._device), length)
        return self._pass(torch.tensor(tokens)[:, None], at[:, None], length, keep=[0] * len(tokens))

    def pass_tokens(self, lengths: Sequence[int]) -> int:
        return max(lengths) * len(lengths)

    def _pass(self, ids: Tensor, positions: Tensor, length: int, *, keep: Sequence[int]) -> Tensor:
        places = sorted(set(keep))
        positions = positions.to(self._device)
        output = self._model(
            input_ids=ids.to(self._device),
            position_ids=positions,
            attention_mask=attention_mask(self._config, positions, length),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=torch.tensor(places, device=self._device),
        )
        logits: Tensor = output.logits
        return logits[torch.arange(len(keep)), [places.index(place) for place in keep]]


def attention_mask(config: Any, positions: Tensor, length: int) -> Tensor | dict[str, Tensor]:
    """Return which of `length` stored tokens each new token at `positions`, int64 [rows, tokens], attends to.

    bool [rows, 1, tokens, length], True where attention is allowed: transformers takes four dimensions unchanged.
    A model that mixes kinds of layers gets a mask for each kind, by name. Raises SettingsError for attention that
    is neither full nor sliding.
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
    # Without layer types a configured window applies to every layer (Mistral, Phi3).
    return _mask(positions, length, None if kinds == {FULL} else window)


def _mask(positions: Tensor, length: int, window: int | None) -> Tensor:
    stored = torch.arange(length, device=positions.device)
    new = positions[:, None, :, None]
    allowed = stored <= new
    return allowed if window is None else allowed & (stored > new - window)
