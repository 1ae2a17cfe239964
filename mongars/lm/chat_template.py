"""Escapes users' text for a chat template, so that it never becomes a control token.

A template is rendered as text and then tokenised: a message that contains `<|system|>` would otherwise speak as
the system, in training and in serving.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any


def escape_special_tokens(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return the messages with a space inside every special token of their content."""
    pattern = _special_tokens(frozenset(special_tokens(tokenizer)))
    return [{**message, "content": pattern.sub(_split_token, message["content"])} for message in messages]


def special_tokens(tokenizer: Any) -> set[str]:
    """Return the text of every special token: the named ones (bos, eos, ...) and the template's role markers."""
    added = tokenizer.added_tokens_decoder.values()
    return {*tokenizer.all_special_tokens, *(token.content for token in added if token.special)}


@lru_cache(maxsize=8)
def _special_tokens(tokens: frozenset[str]) -> re.Pattern[str]:
    """Return a pattern of all tokens, longest first; it matches nothing without special tokens."""
    longest_first = sorted(filter(None, tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _split_token(match: re.Match[str]) -> str:
    token = match[0]
    return f"{token[:1]} {token[1:]}"
