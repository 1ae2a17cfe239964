"""The tokens around a reply: its prompt, how many may follow it, and those that end it."""

from typing import Any

from mongars.errors import InputError
from mongars.lm.chat_template import escape_special_tokens
from mongars.records import GenerationRequest


def prompt_tokens(tokenizer: Any, request: GenerationRequest) -> list[int]:
    """Return the token ids of the request's messages in the chat template."""
    messages = escape_special_tokens(
        tokenizer, [{"role": turn.role, "content": turn.content} for turn in request.turns]
    )
    encoded = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)
    ids: list[int] = encoded["input_ids"]
    return ids


def max_new_tokens(prompt: int, context: int) -> int:
    """Return how many tokens fit after a prompt of `prompt` tokens. Raises InputError when none do."""
    if prompt >= context:
        raise InputError(
            f"The prompt has {prompt} tokens; the model holds {context}.",
            remedy="Shorten the messages.",
            param="messages",
        )
    return context - prompt


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the ids that end a reply: those of the model's generation config, else the tokenizer's."""
    ends = model.generation_config.eos_token_id
    if ends is None:
        ends = tokenizer.eos_token_id
    if ends is None:
        return frozenset()
    return frozenset(ends if isinstance(ends, list) else [ends])
