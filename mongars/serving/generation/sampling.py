"""From logits to tokens, for many requests at once, each by its own settings.

Owns temperature, nucleus and seed. Must not know models or text. A request's choice depends on its own logits and
its own generator alone, whatever else is in the batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mongars.records import Sampling

LEAST_TEMPERATURE = 1e-4
"""With less a sample is the greedy token, and logits divided by it may be too large for float32."""
TRIES = 8
"""Draws outside of a nucleus after which it is sorted out: with top_p 0.5 for one token in 256 at most."""


class TokenSampler:
    """One request's settings with its random numbers."""

    def __init__(self, sampling: Sampling) -> None:
        self.temperature = sampling.temperature
        self.top_p = sampling.top_p
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
    logits = logits.float()  # argmax of bf16 takes a CPU twice as long
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
    """Return a token for each row: of softmax(logits / temperature), drawn again until it is in the row's nucleus.

    That is a sample of the nucleus alone, without finding it: 16 rows of 8,192 tokens take 0.6 ms so, and took 3.1
    where the likeliest were sorted out; of 151,936 tokens 11 and 33 (docs/results/2026-11-27-serving.md).
    """
    temperatures = torch.tensor([sampler.temperature for sampler in samplers], device=logits.device)
    probs = (logits / temperatures[:, None]).softmax(dim=-1)
    cumulated = probs.cumsum(dim=-1)
    tokens = _draw(cumulated, samplers)
    pending = [row for row, sampler in enumerate(samplers) if sampler.top_p < 1]
    for _ in range(TRIES):
        if not pending:
            break
        given = [samplers[row].top_p for row in pending]
        inside = in_nucleus(_rows(probs, pending), _rows(tokens, pending), given)
        pending = [row for row, is_inside in zip(pending, inside, strict=True) if not is_inside]
        if pending:
            tokens[pending] = _draw(cumulated[pending], [samplers[row] for row in pending])
    for row in pending:
        likely = nucleus(probs[row], samplers[row].top_p)
        tokens[row] = likely[_draw(probs[row, likely].cumsum(dim=-1)[None], [samplers[row]])]
    drawn: list[int] = tokens.tolist()
    return drawn


def _draw(cumulated: Tensor, samplers: Sequence[TokenSampler]) -> Tensor:
    """Return where each row's next random number lies among the sums of its probs [rows, tokens]."""
    total = cumulated[:, -1:]
    uniform = torch.tensor([[sampler.uniform()] for sampler in samplers], device=cumulated.device)
    # Less than the total also where the product is rounded up to it: the token after the last has no mass.
    target = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    places = torch.searchsorted(cumulated, target, right=True).squeeze(-1)
    return places.clamp_(max=cumulated.shape[-1] - 1)  # of probs that are no numbers it is none


def in_nucleus(probs: Tensor, tokens: Tensor, top_p: Sequence[float]) -> list[bool]:
    """Return for each row of probs [rows, vocabulary] whether its token is among the most likely of `top_p`.

    It is when those that are likelier have less than `top_p` together (arXiv 1904.09751).
    """
    own = probs.gather(-1, tokens[:, None])
    likelier = torch.where(probs > own, probs, 0.0).sum(dim=-1)
    inside: list[bool] = (likelier < torch.tensor(top_p, device=probs.device)).tolist()
    return inside


def nucleus(probs: Tensor, top_p: float) -> Tensor:
    """Return the fewest most likely tokens of probs [vocabulary] that together have `top_p`.

    All that are as likely as the least of them are among them, as for `in_nucleus`.
    """
    values = probs.sort(descending=True).values
    least = values[values.cumsum(dim=-1) - values < top_p][-1]
    return (probs >= least).nonzero().squeeze(-1)


def _rows(tensor: Tensor, rows: Sequence[int]) -> Tensor:
    """Return some rows, and the tensor itself where they are all: a copy of a large vocabulary takes its time."""
    return tensor if len(rows) == len(tensor) else tensor[rows]
