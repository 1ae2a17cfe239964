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

    def noise(self, count: int) -> Tensor:
        """Return Gumbel noise, float32 [count]: argmax(logits + noise) ~ softmax(logits) (Gumbel, 1954)."""
        uniform = torch.rand(count, generator=self._generator, dtype=torch.float32)
        return -torch.log(-torch.log(uniform.clamp_min(torch.finfo(torch.float32).tiny)))


def choose(logits: Tensor, samplers: Sequence[TokenSampler]) -> list[int]:
    """Return a token for each row of logits [rows, vocabulary]: the greedy one at temperature 0, else a sample."""
    chosen: list[int] = logits.argmax(dim=-1).tolist()
    for row, sampler in enumerate(samplers):
        if sampler.temperature > 0:
            chosen[row] = _sample(logits[row].float().cpu() / sampler.temperature, sampler)
    return chosen


def _sample(logits: Tensor, sampler: TokenSampler) -> int:
    noise = sampler.noise(len(logits))  # by token, so that a seed means the same whatever the nucleus is
    if sampler.top_p >= 1:
        return int((logits + noise).argmax())
    tokens = nucleus(logits, sampler.top_p)
    return int(tokens[(logits[tokens] + noise[tokens]).argmax()])


def nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Return the fewest most likely tokens that together have `top_p` of the probability (arXiv 1904.09751)."""
    total = logits.logsumexp(dim=-1)
    values, tokens = logits.topk(min(NUCLEUS_TOKENS, len(logits)))
    mass = (values - total).exp().cumsum(dim=-1)
    if float(mass[-1]) < top_p and len(values) < len(logits):
        values, tokens = logits.sort(descending=True)
        mass = (values - total).exp().cumsum(dim=-1)
    return tokens[: int((mass < top_p).sum()) + 1]
