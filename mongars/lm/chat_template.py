"""Text of people inside a chat template: what they write never becomes a control token.

Owns the guard. Must not know prompts, models or datasets. A template is rendered as text and then tokenised, so a
message with `<|system|>` in it would otherwise speak as the system, in training as in serving.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any


def escape_special_tokens(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return the messages with every special token of the tokenizer in a content broken by a space."""
    pattern = _special_tokens(frozenset(special_tokens(tokenizer)))
    return [{**message, "content": pattern.sub(_broken, message["content"])} for message in messages]


def special_tokens(tokenizer: Any) -> set[str]:
    """Return the text of every special token: the named ones (bos, eos, ...) and the template's role markers."""
    added = tokenizer.added_tokens_decoder.values()
    return {*tokenizer.all_special_tokens, *(token.content for token in added if token.special)}


@lru_cache(maxsize=8)
def _special_tokens(tokens: frozenset[str]) -> re.Pattern[str]:
    """Return what matches any token, the longest first; nothing for a tokenizer without special tokens."""
    longest_first = sorted(filter(None, tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _broken(match: re.Match[str]) -> str:
    token = match[0]
    return f"{token[:1]} {token[1:]}"
