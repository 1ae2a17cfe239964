"""One sequence under way: its tokens, its text, and its end by token, stop string, length or cancellation."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Event
from typing import Any

from tokenizers.decoders import DecodeStream

from mongars.conversation.phrases import PhraseFilter
from mongars.records import FinishReason, Sampling, Usage
from mongars.serving.generation.sampling import TokenSampler


class TokenSequence:
    """The continuation of the prompt `tokens`. `emit` gets its text on the generating thread.

    Text that may still become a stop string is withheld until it is decided. `result` is set at the end, to the
    finish reason and usage or to an error. Set `cancelled` to stop it at the next pass.
    """

    def __init__(
        self,
        tokens: Sequence[int],
        sampling: Sampling,
        *,
        max_new_tokens: int,
        eos_ids: frozenset[int],
        tokenizer: Any,
        emit: Callable[[str], None],
    ) -> None:
        self.tokens = list(tokens)
        self.prompt_tokens = len(tokens)
        self.sampler = TokenSampler(sampling)
        self.cancelled = Event()
        self.result: Future[tuple[FinishReason, Usage]] = Future()
        self.num_cached = 0  # tokens whose keys and values are in the cache
        self._left = min(sampling.max_tokens, max_new_tokens)
        self.max_total_tokens = self.prompt_tokens + self._left
        self._eos_ids = eos_ids
        self._tokenizer = tokenizer.backend_tokenizer
        self._text = DecodeStream(skip_special_tokens=True)
        self._phrases = PhraseFilter(stops=sampling.stop)
        self._emit = emit

    @property
    def num_uncached(self) -> int:
        """Return how many tokens are not in the cache yet."""
        return len(self.tokens) - self.num_cached

    def append(self, token: int) -> bool:
        """Append the next token; return whether the sequence has ended."""
        self.tokens.append(token)
        self._left -= 1
        if token in self._eos_ids:
            self._end("stop")
            return True
        text = self._text.step(self._tokenizer, token)
        if text and (decided := self._phrases.feed(text)):
            self._emit(decided)
        if self._phrases.stopped:
            self._end("stop")
            return True
        if self._left <= 0:
            self._end("length")
            return True
        return False

    def fail(self, error: BaseException) -> None:
        """End the sequence with an error, unless it has ended."""
        if not self.result.done():
            self.result.set_exception(error)

    def _end(self, reason: FinishReason) -> None:
        if rest := self._phrases.finish():
            self._emit(rest)
        usage = Usage(prompt_tokens=self.prompt_tokens, completion_tokens=len(self.tokens) - self.prompt_tokens)
        self.result.set_result((reason, usage))
