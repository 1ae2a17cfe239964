"""Decodes one request, token by token, on the thread that calls it.

Owns the prompt's tokens, sampling, stop strings and cancellation of one generation. Must not know slots, queues or
asyncio. It drives transformers' `generate()` with its own streamer, criteria and processors.
"""

from collections.abc import Callable
from threading import Event
from typing import Any

import torch
from tokenizers.decoders import DecodeStream
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.generation.logits_process import TemperatureLogitsWarper, TopPLogitsWarper
from transformers.generation.streamers import BaseStreamer

from mongars.conversation.phrases import PhraseFilter
from mongars.errors import InputError
from mongars.neurons.chat_text import guarded
from mongars.records import FinishReason, GenerationRequest, Sampling, Usage


class GumbelNoise(LogitsProcessor):  # type: ignore[misc]  # transformers is untyped here
    """Makes the greedy choice a sample: argmax(logits + Gumbel noise) ~ softmax(logits) (Gumbel, 1954).

    The noise comes from a generator of the request's own, so a seed repeats whatever else the process draws.
    """

    def __init__(self, seed: int | None) -> None:
        self._generator = torch.Generator()
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return `scores` [1, vocabulary] plus noise."""
        uniform = torch.rand(scores.shape, generator=self._generator, dtype=torch.float32)
        tiny = torch.finfo(torch.float32).tiny
        noise = -torch.log(-torch.log(uniform.clamp_min(tiny)))
        return scores + noise.to(scores.device, scores.dtype)


class Decoding(BaseStreamer, StoppingCriteria):  # type: ignore[misc]  # transformers is untyped here
    """One generation under way: gives text as it is decided, and ends when it should."""

    def __init__(
        self,
        tokenizer: Any,
        sampling: Sampling,
        ends: frozenset[int],
        emit: Callable[[str], None],
        cancelled: Event,
    ) -> None:
        self._tokenizer = tokenizer.backend_tokenizer
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._phrases = PhraseFilter(stops=sampling.stop)
        self._ends = ends
        self._emit = emit
        self._cancelled = cancelled
        self._prompt_seen = False
        self._ended = False
        self.tokens = 0

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt [1, n] the first time, then each new token [1]."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        token = int(value.item())
        self.tokens += 1
        self._ended = self._ended or token in self._ends
        text = self._decoder.step(self._tokenizer, token)
        if text and not self._ended and (passed := self._phrases.feed(text)):
            self._emit(passed)

    def end(self) -> None:
        """Give what was held back as a possible stop string."""
        if rest := self._phrases.finish():
            self._emit(rest)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Return whether to stop, as bool [1]: a stop string, or nobody waits any more."""
        done = self._cancelled.is_set() or self._phrases.stopped
        return torch.full((input_ids.shape[0],), done, dtype=torch.bool, device=input_ids.device)

    @property
    def finish_reason(self) -> FinishReason:
        """Return why it ended."""
        return "stop" if self._ended or self._phrases.stopped else "length"


def decode(
    model: Any, tokenizer: Any, request: GenerationRequest, emit: Callable[[str], None], cancelled: Event
) -> tuple[FinishReason, Usage]:
    """Generate an answer, giving its text to `emit`; blocks until it is complete or `cancelled` is set.

    Raises InputError when the prompt leaves no room in the model's context.
    """
    prompt = prompt_tokens(tokenizer, request).to(model.device)
    length = prompt.shape[1]
    room = model.config.max_position_embeddings - length
    if room < 1:
        raise InputError(
            f"The prompt has {length} tokens; the model holds {model.config.max_position_embeddings}.",
            remedy="Shorten the messages.",
            param="messages",
        )
    decoding = Decoding(tokenizer, request.sampling, end_tokens(model, tokenizer), emit, cancelled)
    with torch.inference_mode():
        model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=min(request.sampling.max_tokens, room),
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
            do_sample=False,
            # A base's own sampling defaults must not leak in: the request says all of it, see `_processors`.
            temperature=None,
            top_p=None,
            top_k=None,
            logits_processor=_processors(request.sampling),
            stopping_criteria=StoppingCriteriaList([decoding]),
            streamer=decoding,
        )
    return decoding.finish_reason, Usage(prompt_tokens=length, completion_tokens=decoding.tokens)


def prompt_tokens(tokenizer: Any, request: GenerationRequest) -> torch.Tensor:
    """Return the token ids of the chat template's prompt, int64 [1, n]."""
    messages = guarded(tokenizer, [{"role": turn.role, "content": turn.content} for turn in request.turns])
    encoded = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    ids: torch.Tensor = encoded["input_ids"]
    return ids


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the ids that end an answer: those of the model's generation config, else the tokenizer's."""
    ends = model.generation_config.eos_token_id
    if ends is None:
        ends = tokenizer.eos_token_id
    if ends is None:
        return frozenset()
    return frozenset(ends if isinstance(ends, list) else [ends])


def _processors(sampling: Sampling) -> LogitsProcessorList:
    processors: list[LogitsProcessor] = []
    if sampling.temperature > 0:
        processors.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_p < 1:
            processors.append(TopPLogitsWarper(sampling.top_p))
        processors.append(GumbelNoise(sampling.seed))
    return LogitsProcessorList(processors)
