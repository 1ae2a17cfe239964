"""The answers under way through one module tree: who gets a row, and one forward pass after the other.

Owns admission, prefill and decoding. Must not know threads or adapters. One caller at a time. Rows are given in
the order of arrival. The prompts of those that got one are read the shortest first, so that rows of like length
lie together and a pass that pads pads little. A pass reads at most `prefill_tokens`, with a decoding pass between
any two, so that a long prompt does not silence the answers beside it.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mongars.serving.generation.forward import forward_of
from mongars.serving.generation.kv_cache import padded_tokens
from mongars.serving.generation.sampling import choose
from mongars.serving.generation.sequence import TokenSequence


class Batch:
    """Generates for up to `rows` answers at once; the others wait their turn.

    Keys and values take at most `cache_bytes`, or what one answer needs when that is more.
    """

    def __init__(self, model: nn.Module, *, rows: int, prefill_tokens: int, cache_bytes: int) -> None:
        self._forward = forward_of(model)
        self._cache = self._forward.cache
        self._rows = rows
        self._cache_tokens = cache_bytes // _token_bytes(model)
        self._prefill_tokens = prefill_tokens
        self._waiting: deque[TokenSequence] = deque()
        self._reading: list[
            TokenSequence
        ] = []  # have rows after those that decode; only the first may be half read
        self._decoding: list[TokenSequence] = []  # answer i has row i

    def add(self, answer: TokenSequence) -> None:
        """Put an answer at the end of the queue."""
        self._waiting.append(answer)

    @property
    def busy(self) -> bool:
        """Return whether there is anything to do."""
        return bool(self._waiting or self._reading or self._decoding)

    @torch.inference_mode()
    def step(self) -> None:
        """Read some of the prompts that wait, then give every answer that is read its next token."""
        self._leave([answer for answer in self._decoding if answer.cancelled.is_set()])
        self._read()
        if self._decoding:
            self._decode()
        if not self.busy:
            self._cache.clear()

    def fail(self, error: BaseException) -> None:
        """End every answer with an error; the batch can go on with new ones."""
        for answer in (*self._decoding, *self._reading, *self._waiting):
            answer.fail(error)
        self._waiting.clear()
        self._reading, self._decoding = [], []
        self._cache.clear()

    def _read(self) -> None:
        """Read the prompts that fit into one pass, or the next part of one that does not."""
        self._drop_cancelled()
        if not self._reading:
            self._reading = self._admitted()
        if not self._reading:
            return
        now = self._reading[: self._fitting()]
        start = now[0].num_cached
        length = min(now[-1].num_uncached, self._prefill_tokens)
        self._reserve(start + length)
        parts = [answer.tokens[start : start + length] for answer in now]
        logits = self._forward.read(parts, first_row=len(self._decoding), start=start)
        for answer in now:
            answer.num_cached = min(start + length, answer.prompt_tokens)
        if now[0].num_uncached:
            return  # a long prompt, alone in its pass: goes on next time
        self._reading = self._reading[len(now) :]
        self._decoding += now
        self._take(now, logits)

    def _fitting(self) -> int:
        """Return how many of the prompts to read fit into one pass, at least 1."""
        if self._reading[0].num_cached:
            return 1
        count, lengths = 1, [answer.prompt_tokens for answer in self._reading]
        while count < len(lengths) and self._forward.pass_tokens(lengths[: count + 1]) <= self._prefill_tokens:
            count += 1
        return count

    def _admitted(self) -> list[TokenSequence]:
        """Return the next answers in the queue that have rows and memory, the shortest prompt first."""
        admitted: list[TokenSequence] = []
        longest = max((answer.max_total_tokens for answer in self._decoding), default=0)
        while self._waiting and (rows := len(self._decoding) + len(admitted) + 1) <= self._rows:
            needed = max(longest, self._waiting[0].max_total_tokens)
            if rows > 1 and padded_tokens(rows, needed) > self._cache_tokens:
                break
            longest = needed
            admitted.append(self._waiting.popleft())
        return sorted(admitted, key=lambda answer: answer.prompt_tokens)

    def _decode(self) -> None:
        answers = list(self._decoding)
        self._reserve(max(answer.num_cached for answer in answers) + 1)
        logits = self._forward.decode(
            [answer.tokens[-1] for answer in answers], [answer.num_cached for answer in answers]
        )
        for answer in answers:
            answer.num_cached += 1
        self._take(answers, logits)

    def _reserve(self, length: int) -> None:
        """Have room for a pass after which its longest row holds `length` tokens, and for what all rows hold."""
        answers = [*self._decoding, *self._reading]
        self._cache.reserve(len(answers), max(length, *(answer.num_cached for answer in answers)))

    def _take(self, answers: Sequence[TokenSequence], logits: Tensor) -> None:
        tokens = choose(logits, [answer.sampler for answer in answers])
        self._leave([answer for answer, token in zip(answers, tokens, strict=True) if _over(answer, token)])

    def _leave(self, answers: Sequence[TokenSequence]) -> None:
        """Give the rows of some answers to the last ones, so that the rows in use stay the first."""
        before = len(self._decoding)
        for answer in answers:
            row = self._decoding.index(answer)
            last = self._decoding.pop()
            if last is not answer:
                self._cache.move(len(self._decoding), row, last.num_cached)
                self._decoding[row] = last
            answer.result.cancel()  # does nothing to one that is over
        if answers:
            for place, answer in enumerate(self._reading):
                self._cache.move(before + place, len(self._decoding) + place, answer.num_cached)

    def _drop_cancelled(self) -> None:
        for answer in [answer for answer in (*self._waiting, *self._reading) if answer.cancelled.is_set()]:
            answer.result.cancel()
        self._waiting = deque(answer for answer in self._waiting if not answer.cancelled.is_set())
        # Rows after one that goes move up, and hold nothing yet: only the first can be half read.
        self._reading = [answer for answer in self._reading if not answer.cancelled.is_set()]


def _token_bytes(model: nn.Module) -> int:
    """Return the memory of one token's keys and values."""
    config: Any = model.config
    config = config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * int(config.num_hidden_layers * heads * size) * next(model.parameters()).element_size()


def _over(answer: TokenSequence, token: int) -> bool:
    """Give an answer its token; return whether it is over. What goes wrong in one answer ends no other."""
    try:
        return answer.append(token)
    except Exception as error:  # noqa: BLE001 (raised again where the answer is awaited)
        answer.fail(error)
        return True
