"""Continuous batching of the sequences that run through one module tree, one forward pass at a time.

It knows neither threads nor adapters and has one caller at a time. Rows are assigned in order of arrival. Prompts
that have a row are prefilled shortest first, so that a padded pass pads little. A prefill pass takes at most
`prefill_tokens`, and a decode pass follows each, so that a long prompt does not stall the other sequences.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mongars.serving.generation.forward import forward_of
from mongars.serving.generation.kv_cache import padded_tokens
from mongars.serving.generation.sampling import sample
from mongars.serving.generation.sequence import TokenSequence


class ContinuousBatch:
    """Generates up to `rows` sequences at once; the others wait in a queue.

    The KV cache takes at most `cache_bytes`, or what one sequence needs when that is more.
    """

    def __init__(self, model: nn.Module, *, rows: int, prefill_tokens: int, cache_bytes: int) -> None:
        self._forward = forward_of(model)
        self._cache = self._forward.cache
        self._rows = rows
        self._cache_tokens = cache_bytes // _token_bytes(model)
        self._prefill_tokens = prefill_tokens
        self._waiting: deque[TokenSequence] = deque()
        # Their rows follow those of `_decoding`; only the first may be partly prefilled.
        self._prefilling: list[TokenSequence] = []
        self._decoding: list[TokenSequence] = []  # sequence i has row i

    def add(self, sequence: TokenSequence) -> None:
        """Append a sequence to the queue."""
        self._waiting.append(sequence)

    @property
    def busy(self) -> bool:
        """Return whether any sequence waits or runs."""
        return bool(self._waiting or self._prefilling or self._decoding)

    @torch.inference_mode()
    def step(self) -> None:
        """Run one prefill pass, if prompts wait, and one decode pass, which gives each sequence a token."""
        self._remove([sequence for sequence in self._decoding if sequence.cancelled.is_set()])
        self._prefill()
        if self._decoding:
            self._decode()
        if not self.busy:
            self._cache.clear()

    def fail(self, error: BaseException) -> None:
        """End every sequence with an error; new ones can be added afterwards."""
        for sequence in (*self._decoding, *self._prefilling, *self._waiting):
            sequence.fail(error)
        self._waiting.clear()
        self._prefilling, self._decoding = [], []
        self._cache.clear()

    def _prefill(self) -> None:
        """Prefill the prompts that fit into one pass, or the next part of one that does not."""
        self._drop_cancelled()
        if not self._prefilling:
            self._prefilling = self._admit()
        if not self._prefilling:
            return
        now = self._prefilling[: self._num_fitting()]
        start = now[0].num_cached
        length = min(now[-1].num_uncached, self._prefill_tokens)
        self._reserve(start + length)
        parts = [sequence.tokens[start : start + length] for sequence in now]
        logits = self._forward.prefill(parts, first_row=len(self._decoding), start=start)
        for sequence in now:
            sequence.num_cached = min(start + length, sequence.prompt_tokens)
        if now[0].num_uncached:
            return  # a long prompt, alone in its pass; the next step continues it
        self._prefilling = self._prefilling[len(now) :]
        self._decoding += now
        self._sample(now, logits)

    def _num_fitting(self) -> int:
        """Return how many prompts fit into one prefill pass, at least 1."""
        if self._prefilling[0].num_cached:
            return 1
        count, lengths = 1, [sequence.prompt_tokens for sequence in self._prefilling]
        while count < len(lengths) and self._forward.pass_tokens(lengths[: count + 1]) <= self._prefill_tokens:
            count += 1
        return count

    def _admit(self) -> list[TokenSequence]:
        """Take the next sequences that have rows and memory from the queue, shortest prompt first."""
        admitted: list[TokenSequence] = []
        longest = max((sequence.max_total_tokens for sequence in self._decoding), default=0)
        while self._waiting and (rows := len(self._decoding) + len(admitted) + 1) <= self._rows:
            needed = max(longest, self._waiting[0].max_total_tokens)
            if rows > 1 and padded_tokens(rows, needed) > self._cache_tokens:
                break
            longest = needed
            admitted.append(self._waiting.popleft())
        return sorted(admitted, key=lambda sequence: sequence.prompt_tokens)

    def _decode(self) -> None:
        sequences = list(self._decoding)
        self._reserve(max(sequence.num_cached for sequence in sequences) + 1)
        logits = self._forward.decode(
            [sequence.tokens[-1] for sequence in sequences], [sequence.num_cached for sequence in sequences]
        )
        for sequence in sequences:
            sequence.num_cached += 1
        self._sample(sequences, logits)

    def _reserve(self, length: int) -> None:
        """Reserve cache for every row, and for a pass after which the longest of its rows has `length` tokens."""
        sequences = [*self._decoding, *self._prefilling]
        self._cache.reserve(len(sequences), max(length, *(sequence.num_cached for sequence in sequences)))

    def _sample(self, sequences: Sequence[TokenSequence], logits: Tensor) -> None:
        """Append a token to each sequence and remove those that have ended."""
        tokens = sample(logits, [sequence.sampler for sequence in sequences])
        self._remove(
            [sequence for sequence, token in zip(sequences, tokens, strict=True) if _append(sequence, token)]
        )

    def _remove(self, sequences: Sequence[TokenSequence]) -> None:
        """Remove sequences and move the last rows to theirs, so that the rows in use stay the first."""
        before = len(self._decoding)
        for sequence in sequences:
            row = self._decoding.index(sequence)
            last = self._decoding.pop()
            if last is not sequence:
                self._cache.move(len(self._decoding), row, last.num_cached)
                self._decoding[row] = last
            sequence.result.cancel()  # no effect on a sequence that has ended
        if sequences:
            for place, sequence in enumerate(self._prefilling):
                self._cache.move(before + place, len(self._decoding) + place, sequence.num_cached)

    def _drop_cancelled(self) -> None:
        for sequence in [each for each in (*self._waiting, *self._prefilling) if each.cancelled.is_set()]:
            sequence.result.cancel()
        self._waiting = deque(sequence for sequence in self._waiting if not sequence.cancelled.is_set())
        # The rows after a dropped one move up. They are empty: only the first can be partly prefilled.
        self._prefilling = [sequence for sequence in self._prefilling if not sequence.cancelled.is_set()]


def _token_bytes(model: nn.Module) -> int:
    """Return the size of one token's keys and values."""
    config: Any = model.config
    config = config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * int(config.num_hidden_layers * heads * size) * next(model.parameters()).element_size()


def _append(sequence: TokenSequence, token: int) -> bool:
    """Append a token to a sequence; return whether it has ended. An error ends this sequence only."""
    try:
        return sequence.append(token)
    except Exception as error:  # noqa: BLE001 (raised again where the result is awaited)
        sequence.fail(error)
        return True
