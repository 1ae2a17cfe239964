"""One answer on the calling thread, by the decoding that serves: for measurements and checks.

Must not know adapters or queues.
"""

from collections.abc import Callable
from typing import Any

from mongars.records import FinishReason, GenerationRequest, Usage
from mongars.serving.generation.answer import Answer
from mongars.serving.generation.batch import Batch
from mongars.serving.generation.prompt import end_tokens, prompt_tokens, room_for_answer


def answer_alone(
    model: Any, tokenizer: Any, request: GenerationRequest, emit: Callable[[str], None], *, ends: bool = True
) -> tuple[FinishReason, Usage]:
    """Generate an answer, giving its text to `emit`; without `ends` it has all the tokens that it may have.

    Raises InputError when the prompt leaves no room in the model's context.
    """
    tokens = prompt_tokens(tokenizer, request)
    answer = Answer(
        tokens,
        request.sampling,
        room=room_for_answer(len(tokens), int(model.config.max_position_embeddings)),
        ends=end_tokens(model, tokenizer) if ends else frozenset(),
        tokenizer=tokenizer,
        emit=emit,
    )
    batch = Batch(model, rows=1, prefill_tokens=len(tokens), cache_bytes=0)
    batch.add(answer)
    while batch.busy:
        batch.step()
    return answer.result.result(timeout=0)
