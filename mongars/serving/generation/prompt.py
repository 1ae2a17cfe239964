"""What an answer begins with and what ends it: the template's prompt, the room that it leaves, the end tokens.

Owns the talk with the tokenizer. Must not know batches or adapters.
"""

from typing import Any

from mongars.errors import InputError
from mongars.lm.chat_template import escape_special_tokens
from mongars.records import GenerationRequest


def prompt_tokens(tokenizer: Any, request: GenerationRequest) -> list[int]:
    """Return the token ids of the chat template's prompt."""
    messages = escape_special_tokens(
        tokenizer, [{"role": turn.role, "content": turn.content} for turn in request.turns]
    )
    encoded = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)
    ids: list[int] = encoded["input_ids"]
    return ids


def max_new_tokens(prompt: int, context: int) -> int:
    """Return how many tokens an answer to a prompt of `prompt` tokens may have. Raises InputError for none."""
    if prompt >= context:
        raise InputError(
            f"The prompt has {prompt} tokens; the model holds {context}.",
            remedy="Shorten the messages.",
            param="messages",
        )
    return context - prompt


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the ids that end an answer: those of the model's generation config, else the tokenizer's."""
    ends = model.generation_config.eos_token_id
    if ends is None:
        ends = tokenizer.eos_token_id
    if ends is None:
        return frozenset()
    return frozenset(ends if isinstance(ends, list) else [ends])
