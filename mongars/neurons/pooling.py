"""From the states of tokens to the vector of a text."""

from collections.abc import Sequence

import torch
from torch import Tensor


def mean_of_each(states: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return the mean over the tokens of each text: [tokens, hidden] -> float32 [texts, hidden].

    The states of the texts follow each other; `lengths` are their tokens, at least one each.
    """
    counts = torch.tensor(lengths, device=states.device)
    means: Tensor = torch.segment_reduce(states.to(torch.float32), "mean", lengths=counts, axis=0)
    return means


def normalise(vectors: Tensor) -> Tensor:
    """Return the vectors [n, d] scaled to Euclidean length 1; a zero vector stays zero."""
    return torch.nn.functional.normalize(vectors, dim=-1)
