"""From logits to tokens, for many requests at once, each by its own settings.

Owns temperature, nucleus and seed. Must not know models or text. A request's choice depends on its own logits and
its own generator alone, whatever else is in the batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mongars.records import Sampling

# A nucleus nearly always fits in so many tokens; where it does not, the whole vocabulary is sorted.
NUCLEUS_TOKENS = 256


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

    def draw(self, uniform: Tensor) -> None:
        """Fill float32 [count] with this request's next random numbers, each in [0, 1)."""
        torch.rand(len(uniform), generator=self._generator, out=uniform)


def choose(logits: Tensor, samplers: Sequence[TokenSampler]) -> list[int]:
    """Return a token for each row of logits [rows, vocabulary]: the greedy one at temperature 0, else a sample."""
    logits = logits.float()  # argmax of bf16 takes a CPU twice as long
    chosen: list[int] = logits.argmax(dim=-1).tolist()
    rows = [row for row, sampler in enumerate(samplers) if sampler.temperature > 0]
    if rows:
        drawn = _sample(logits[rows].cpu(), [samplers[row] for row in rows])
        for row, token in zip(rows, drawn, strict=True):
            chosen[row] = token
    return chosen


def _sample(logits: Tensor, samplers: Sequence[TokenSampler]) -> list[int]:
    """Return a token for each row: argmax(logits + Gumbel noise) ~ softmax(logits) (Gumbel, 1954)."""
    logits = logits / torch.tensor([sampler.temperature for sampler in samplers])[:, None]
    uniform = torch.empty_like(logits)
    for row, sampler in enumerate(samplers):
        sampler.draw(uniform[row])  # one for each token, so that a seed means the same whatever the nucleus is
    noisy = logits - uniform.clamp_min_(torch.finfo(torch.float32).tiny).log_().neg_().log_()
    drawn: list[int] = noisy.argmax(dim=-1).tolist()
    for row, sampler in enumerate(samplers):
        if sampler.top_p < 1:
            tokens = nucleus(logits[row], sampler.top_p)
            drawn[row] = int(tokens[noisy[row, tokens].argmax()])
    return drawn


def nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Return the fewest most likely tokens that together have `top_p` of the probability (arXiv 1904.09751)."""
    total = logits.logsumexp(dim=-1)
    values, tokens = logits.topk(min(NUCLEUS_TOKENS, len(logits)))
    mass = (values - total).exp().cumsum(dim=-1)
    if float(mass[-1]) < top_p and len(values) < len(logits):
        values, tokens = logits.sort(descending=True)
        mass = (values - total).exp().cumsum(dim=-1)
    return tokens[: int((mass < top_p).sum()) + 1]
