"""From texts to vectors with an encoder."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mongars.errors import InputError
from mongars.lm.tokenize import tokenize
from mongars.neurons.mean_pooling import MeanPooler, mean_pooler
from mongars.neurons.pooling import normalise

TOKEN_BUDGET = 2048
"""Longest row times rows of a batch; larger ones are hardly faster and make requests wait longer."""


@dataclass(frozen=True)
class TokenWindows:
    """Windows of tokens, each with the index of its text. A text that fits the model is one window."""

    texts: int
    windows: list[tuple[int, list[int]]]

    @property
    def tokens(self) -> int:
        """Return how many tokens all windows have."""
        return sum(len(ids) for _, ids in self.windows)


class Neurons:
    """An encoder with its tokenizer; not safe for concurrent callers.

    `encode` does everything. `tokenize`, `means` and `vectors` are its parts, for a caller that batches several
    requests; only `means` runs the model.
    """

    def __init__(
        self,
        encoder: nn.Module,
        tokenizer: Any,
        *,
        token_budget: int = TOKEN_BUDGET,
        pooler_of: Callable[[nn.Module], MeanPooler] = mean_pooler,
    ) -> None:
        self._pooler = pooler_of(encoder.eval())
        self._tokenizer = tokenizer
        self.token_budget = token_budget
        config: Any = encoder.config
        self._window = int(config.max_position_embeddings)
        self.dimensions = int(config.hidden_size)

    def encode(self, texts: Sequence[str], *, dimensions: int | None = None) -> tuple[np.ndarray, int]:
        """Return float32 vectors [texts, dimensions] of length 1, in input order, and the count of tokens.

        A vector is independent of the other texts, within 1e-5. `dimensions` keeps the first ones and normalises
        again. A text longer than the model's window is split into windows, and the mean is over all its tokens.
        Raises InputError for a text without tokens or for impossible `dimensions`.
        """
        self.check_dimensions(dimensions)
        split = self.tokenize(texts)
        sums = self.zeros(split.texts)
        for batch in _batches(split.windows, self.token_budget):
            for (index, ids), mean in zip(batch, self.means([ids for _, ids in batch]), strict=True):
                sums[index] += mean * len(ids)
        return self.vectors(sums, dimensions), split.tokens

    def check_dimensions(self, dimensions: int | None) -> None:
        """Raise InputError unless there are at least `dimensions`, and at least 1 is requested."""
        if dimensions is not None and not 1 <= dimensions <= self.dimensions:
            raise InputError(f"dimensions must be 1 to {self.dimensions}, not {dimensions}.", param="dimensions")

    def tokenize(self, texts: Sequence[str]) -> TokenWindows:
        """Return the windows of texts. Raises InputError for a text without tokens."""
        windows = [
            (index, ids[start : start + self._window])
            for index, ids in enumerate(self._tokens(texts))
            for start in range(0, len(ids), self._window)
        ]
        return TokenWindows(len(texts), windows)

    def without_tokens(self, texts: Sequence[str]) -> set[int]:
        """Return the indices of texts without tokens, which `encode` refuses."""
        return {index for index, ids in enumerate(tokenize(self._tokenizer, texts)) if not ids}

    def zeros(self, texts: int) -> Tensor:
        """Return initial sums of the texts' states: float32 [texts, hidden]."""
        return torch.zeros(texts, self.dimensions)

    @torch.inference_mode()
    def means(self, windows: Sequence[Sequence[int]]) -> Tensor:
        """Return the mean state of each window's tokens: float32 [windows, hidden]."""
        return self._pooler(windows)

    @staticmethod
    def vectors(sums: Tensor, dimensions: int | None) -> np.ndarray:
        """Return the vectors of texts from the sums of their tokens' states: float32 [texts, dimensions]."""
        vectors: np.ndarray = normalise(
            sums[:, :dimensions]
        ).numpy()  # dividing by the count of tokens would have no effect
        return vectors

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        rows = tokenize(self._tokenizer, texts)
        for index, ids in enumerate(rows):
            if not ids:
                raise InputError(f"Text {index} is empty.", param="input")
        return rows


def _batches(windows: list[tuple[int, list[int]]], budget: int) -> Iterator[list[tuple[int, list[int]]]]:
    """Yield batches of similar length, each within the budget of longest times count, or of one window."""
    batch: list[tuple[int, list[int]]] = []
    for window in sorted(windows, key=lambda item: -len(item[1])):
        if batch and len(batch[0][1]) * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch
