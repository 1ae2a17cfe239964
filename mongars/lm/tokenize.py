"""From texts to token ids and padded rows, the same in training and serving."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


def tokenize(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text; an empty list when the tokenizer finds none."""
    # a tokenizer refuses an empty list
    rows: list[list[int]] = tokenizer(list(texts), verbose=False)["input_ids"] if texts else []
    return rows


def padded(rows: "Sequence[Sequence[int] | np.ndarray]") -> "tuple[Tensor, Tensor]":
    """Return at least one row of token ids, padded at the right, and their mask: int64 [rows, longest] each."""
    import torch  # late: Ray Data's tasks only tokenise

    input_ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    for row, ids in enumerate(rows):
        input_ids[row, : len(ids)] = torch.as_tensor(ids)
        attention_mask[row, : len(ids)] = 1
    return input_ids, attention_mask
