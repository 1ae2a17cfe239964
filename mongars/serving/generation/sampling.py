"""Sampling of tokens for many requests at once, each with its own temperature, nucleus and seed.

A request's token depends only on its own logits and random numbers, whatever else is in the batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mongars.records import Sampling

LEAST_TEMPERATURE = 1e-4
"""Below it a sample is the greedy token, and logits divided by it may overflow float32."""
LEAST_TOP_P = torch.finfo(torch.float32).tiny
"""A smaller share is 0 in float32, and not even the likeliest token would be in the nucleus."""
TRIES = 8
"""Draws outside the nucleus before it is computed by sorting."""


class TokenSampler:
    """One request's sampling settings and random numbers."""

    def __init__(self, sampling: Sampling) -> None:
        self.temperature = sampling.temperature
        self.top_p = max(sampling.top_p, LEAST_TOP_P)
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def uniform(self) -> float:
        """Return this request's next random number, in [0, 1)."""
        return float(torch.rand((), generator=self._generator))


def sample(logits: Tensor, samplers: Sequence[TokenSampler]) -> list[int]:
    """Return a token for each row of logits [rows, vocabulary]: the greedy one at temperature 0, else a sample."""
    logits = logits.float()  # argmax is slow in bf16 on a CPU
    rows = [row for row, sampler in enumerate(samplers) if sampler.temperature >= LEAST_TEMPERATURE]
    if len(rows) == len(samplers):
        return _sample_nucleus(logits, samplers)
    tokens: list[int] = logits.argmax(dim=-1).tolist()
    if rows:
        drawn = _sample_nucleus(logits[rows], [samplers[row] for row in rows])
        for row, token in zip(rows, drawn, strict=True):
            tokens[row] = token
    return tokens


def _sample_nucleus(logits: Tensor, samplers: Sequence[TokenSampler]) -> list[int]:
    """Return a sample of softmax(logits / temperature) for each row, drawn again until it is in the row's nucleus.

    This rejection samples the nucleus without the cost of sorting (docs/results/serving.md).
    """
    temperatures = torch.tensor([sampler.temperature for sampler in samplers], device=logits.device)
    probs = (logits / temperatures[:, None]).softmax(dim=-1)
    cumulative = probs.cumsum(dim=-1)
    tokens = _draw(cumulative, samplers)
    pending = [row for row, sampler in enumerate(samplers) if sampler.top_p < 1]
    for _ in range(TRIES):
        if not pending:
            break
        given = [samplers[row].top_p for row in pending]
        inside = in_nucleus(_rows(probs, pending), _rows(tokens, pending), given)
        pending = [row for row, is_inside in zip(pending, inside, strict=True) if not is_inside]
        if pending:
            tokens[pending] = _draw(cumulative[pending], [samplers[row] for row in pending])
    for row in pending:
        likely = nucleus(probs[row], samplers[row].top_p)
        tokens[row] = likely[_draw(probs[row, likely].cumsum(dim=-1)[None], [samplers[row]])]
    drawn: list[int] = tokens.tolist()
    return drawn


def _draw(cumulative: Tensor, samplers: Sequence[TokenSampler]) -> Tensor:
    """Return a token for each row of cumulative probs [rows, tokens], by the row's next random number."""
    total = cumulative[:, -1:]
    uniform = torch.tensor([[sampler.uniform()] for sampler in samplers], device=cumulative.device)
    # Stay below the total even where the product rounds up to it: no token follows the last.
    target = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    places = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    return places.clamp_(max=cumulative.shape[-1] - 1)  # NaN probs have no place


def in_nucleus(probs: Tensor, tokens: Tensor, top_p: Sequence[float]) -> list[bool]:
    """Return whether each row's token is in the nucleus of its probs [rows, vocabulary].

    It is when all likelier tokens together have less than `top_p` (arXiv 1904.09751).
    """
    own = probs.gather(-1, tokens[:, None])
    likelier = torch.where(probs > own, probs, 0.0).sum(dim=-1)
    inside: list[bool] = (likelier < torch.tensor(top_p, device=probs.device)).tolist()
    return inside


def nucleus(probs: Tensor, top_p: float) -> Tensor:
    """Return the fewest tokens of probs [vocabulary], the likeliest first, that together have `top_p`.

    Ties with the last of them are included, as in `in_nucleus`.
    """
    values = probs.sort(descending=True).values
    least = values[values.cumsum(dim=-1) - values < top_p][-1]
    return (probs >= least).nonzero().squeeze(-1)


def _rows(tensor: Tensor, rows: Sequence[int]) -> Tensor:
    """Return some rows; all rows without a copy, which is slow for a large vocabulary."""
    return tensor if len(rows) == len(tensor) else tensor[rows]
