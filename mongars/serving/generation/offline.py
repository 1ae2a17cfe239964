"""Generation of one sequence on the calling thread, by the code that serves: for measurements and checks."""

from collections.abc import Callable
from typing import Any

from mongars.records import FinishReason, GenerationRequest, Usage
from mongars.serving.generation.batch import ContinuousBatch
from mongars.serving.generation.prompt import end_tokens, max_new_tokens, prompt_tokens
from mongars.serving.generation.sequence import TokenSequence


def generate_one(
    model: Any,
    tokenizer: Any,
    request: GenerationRequest,
    emit: Callable[[str], None],
    *,
    stop_at_eos: bool = True,
) -> tuple[FinishReason, Usage]:
    """Generate a reply and pass its text to `emit`; return why it ended and its usage.

    Without `stop_at_eos` it generates every token that the request allows. Raises InputError when the prompt fills
    the model's context.
    """
    tokens = prompt_tokens(tokenizer, request)
    sequence = TokenSequence(
        tokens,
        request.sampling,
        max_new_tokens=max_new_tokens(len(tokens), int(model.config.max_position_embeddings)),
        eos_ids=end_tokens(model, tokenizer) if stop_at_eos else frozenset(),
        tokenizer=tokenizer,
        emit=emit,
    )
    batch = ContinuousBatch(model, rows=1, prefill_tokens=len(tokens), cache_bytes=0)
    batch.add(sequence)
    while batch.busy:
        batch.step()
    return sequence.result.result(timeout=0)
