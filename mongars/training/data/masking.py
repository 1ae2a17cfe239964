"""Which tokens of a row are predicted, and what is shown in their place.

Owns the masks. A row's mask depends on (seed, row id, epoch) alone, so that it is the same on any worker, at any
world size and after a resume. Must not know models or batches.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mongars.errors import TrainingError
from mongars.training.config import MNTPConfig
from mongars.training.data.tokenize import special_token_ids

LLM2VEC_MASK = "_"  # what LLM2Vec shows in place of a masked token where the tokenizer has no mask token


@dataclass(frozen=True)
class MaskedRow:
    """A row as the model sees it.

    `ids` [tokens] are the tokens shown; `positions` [targets], ascending and never 0, are those to predict and
    `labels` [targets] the true tokens there; `hidden` [targets] says where the mask token is shown.
    """

    id: str
    ids: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    hidden: np.ndarray


class Masker:
    """Masks rows of one tokenizer by one recipe."""

    def __init__(self, config: MNTPConfig, *, mask_id: int, vocab_size: int, special: frozenset[int]) -> None:
        self._config = config
        self._mask_id = mask_id
        self._special = np.array(sorted(special), dtype=np.int64)
        self._ordinary = np.setdiff1d(np.arange(vocab_size), self._special)

    @classmethod
    def of(cls, config: MNTPConfig, tokenizer: Any) -> "Masker":
        """Return the masker of a tokenizer. Raises TrainingError when it has no usable mask token."""
        return cls(
            config,
            mask_id=mask_token_id(config, tokenizer),
            vocab_size=len(tokenizer),
            special=special_token_ids(tokenizer),
        )

    def mask(self, row_id: str, ids: Sequence[int] | np.ndarray, epoch: int) -> MaskedRow:
        """Mask a row. Special tokens and position 0 are never targets; a row with any other token has one."""
        tokens = np.asarray(ids, dtype=np.int64)
        rng = _generator(self._config.seed, row_id, epoch)
        eligible = np.flatnonzero(~np.isin(tokens, self._special))
        eligible = eligible[eligible > 0]
        positions = eligible[rng.random(eligible.size) < self._config.mask_share]
        if positions.size == 0 and eligible.size:
            positions = rng.choice(eligible, size=1)
        draw = rng.random(positions.size)
        hidden = draw < self._config.hide_share
        replaced = ~hidden & (draw < self._config.hide_share + self._config.random_share)
        shown = tokens.copy()
        shown[positions[hidden]] = self._mask_id
        shown[positions[replaced]] = rng.choice(self._ordinary, size=int(replaced.sum()))
        return MaskedRow(row_id, shown, positions, tokens[positions], hidden)


def mask_token_id(config: MNTPConfig, tokenizer: Any) -> int:
    """Return the token shown for a masked one: the configured id, else the tokenizer's mask token, else `_`.

    The tokenizer is never changed: setting its mask token changes how `_` is split after saving.
    Raises TrainingError when there is none.
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
