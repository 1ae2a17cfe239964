"""Forward passes over rows of keys and values: prompts read, and a next token for every row.

Owns what a pass needs of a model and which implementation a model gets. `TransformersForward` runs every
architecture; `LlamaForward` (llama.py) runs the common ones in fewer and larger operations. Must not know answers.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mongars.lm.architecture import is_like_llama
from mongars.serving.generation.kv_cache import KVCache
from mongars.serving.generation.llama import LlamaForward
from mongars.serving.generation.masks import attention_mask


class Forward(Protocol):
    """A model with the keys and values of its rows, which must be reserved before a pass."""

    cache: KVCache

    def prefill(self, prompts: Sequence[Sequence[int]], *, first_row: int, start: int) -> Tensor:
        """Read tokens into rows from `first_row` on, each row's from position `start` on.

        Returns the logits after the last token of each, [prompts, vocabulary].
        """
        ...

    def decode(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Read one token into each row from the first on; return the logits after it, [rows, vocabulary]."""
        ...

    def pass_tokens(self, lengths: Sequence[int]) -> int:
        """Return how many tokens a pass computes that reads prompts of these lengths."""
        ...


def forward_of(model: nn.Module) -> Forward:
    """Return the passes of a causal language model, with an adapter or without."""
    return LlamaForward(model) if is_like_llama(model) else TransformersForward(model)


class TransformersForward:
    """The model's own forward, over prompts that are padded to the longest."""

    def __init__(self, model: nn.Module) -> None:
        self.cache = KVCache()
        self._model = model
        self._config: Any = model.config
        self._device = next(model.parameters()).device

    def prefill(self, prompts: Sequence[Sequence[int]], *, first_row: int, start: int) -> Tensor:
        """As `Forward.prefill`."""
        length = max(map(len, prompts))
        ids = torch.zeros(len(prompts), length, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(prompt)
        positions = torch.arange(start, start + length).expand(len(prompts), -1)
        self.cache.set_write_span(first_row, len(prompts), start, start + length)
        return self._pass(ids, positions, start + length, keep=[len(prompt) - 1 for prompt in prompts])

    def decode(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """As `Forward.decode`."""
        at = torch.tensor(positions)
        length = max(positions) + 1
        self.cache.set_write_positions(at.to(self._device), length)
        return self._pass(torch.tensor(tokens)[:, None], at[:, None], length, keep=[0] * len(tokens))

    def pass_tokens(self, lengths: Sequence[int]) -> int:
        """As `Forward.pass_tokens`."""
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
