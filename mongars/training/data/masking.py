"""Masks of rows: which tokens are predicted, and which tokens replace them in the input.

A mask depends only on (seed, row id, epoch), so it is the same on any worker, at any world size and after a
resume.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mongars.errors import TrainingError
from mongars.training.config import MNTPConfig
from mongars.training.data.tokenize import special_token_ids

LLM2VEC_MASK = "_"  # LLM2Vec's substitute for tokenizers without a mask token


@dataclass(frozen=True)
class MaskedRow:
    """A row as the model sees it.

    `ids` [tokens] are the input tokens. `positions` [targets], ascending and never 0, are the positions to
    predict, `labels` [targets] the true tokens there, and `hidden` [targets] whether the input has the mask token
    there.
    """

    id: str
    ids: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    hidden: np.ndarray


class Masker:
    """Masks the rows of a run."""

    def __init__(self, config: MNTPConfig, *, mask_id: int, vocab_size: int, special: frozenset[int]) -> None:
        self._config = config
        self._mask_id = mask_id
        self._special = np.array(sorted(special), dtype=np.int64)
        self._ordinary = np.setdiff1d(np.arange(vocab_size), self._special)

    @classmethod
    def of(cls, config: MNTPConfig, tokenizer: Any) -> "Masker":
        """Return the masker for a tokenizer. Raises TrainingError if it has no usable mask token."""
        return cls(
            config,
            mask_id=mask_token_id(config, tokenizer),
            vocab_size=len(tokenizer),
            special=special_token_ids(tokenizer),
        )

    def mask(self, row_id: str, ids: Sequence[int] | np.ndarray, epoch: int) -> MaskedRow:
        """Mask a row: special tokens and position 0 are never targets, and any other token suffices for one."""
        tokens = np.asarray(ids, dtype=np.int64)
        rng = _generator(self._config.seed, row_id, epoch)
        eligible = np.flatnonzero(~np.isin(tokens, self._special))
        eligible = eligible[eligible > 0]
        positions = eligible[rng.random(eligible.size) < self._config.mask_share]
        if positions.size == 0 and eligible.size:
            positions = rng.choice(eligible, size=1)
        uniform = rng.random(positions.size)
        hidden = uniform < self._config.hide_share
        replaced = ~hidden & (uniform < self._config.hide_share + self._config.random_share)
        shown = tokens.copy()
        shown[positions[hidden]] = self._mask_id
        shown[positions[replaced]] = rng.choice(self._ordinary, size=int(replaced.sum()))
        return MaskedRow(row_id, shown, positions, tokens[positions], hidden)


def mask_token_id(config: MNTPConfig, tokenizer: Any) -> int:
    """Return the mask token: the configured id, else the tokenizer's own, else `_`.

    Does not set it on the tokenizer, because that changes how a saved tokenizer splits `_`.
    Raises TrainingError if there is none.
    """
    if config.mask_token_id is not None:
        if config.mask_token_id >= len(tokenizer):
            raise TrainingError(
                f"mask_token_id {config.mask_token_id} is outside the vocabulary of {len(tokenizer)} tokens.",
                remedy="Set mask_token_id to the id of a token that is rare in the text.",
            )
        return config.mask_token_id
    if tokenizer.mask_token_id is not None:
        return int(tokenizer.mask_token_id)
    underscore = tokenizer.get_vocab().get(LLM2VEC_MASK)
    if underscore is None:
        raise TrainingError(
            "The tokenizer has neither a mask token nor the token `_`.",
            remedy="Set mask_token_id to the id of a token that is rare in the text.",
        )
    return int(underscore)


def _generator(seed: int, row_id: str, epoch: int) -> np.random.Generator:
    key = hashlib.sha256(f"{seed}\0{epoch}\0{row_id}".encode()).digest()[:16]  # Philox takes a key of 128 bits
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
