"""How a conversation becomes token ids.

Owns the reading of a dataset version's Parquet rows and the choice of text form. Must not know masks or models.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

Split = Literal["train", "test"]
COLUMNS = ("id", "split", "messages")


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation of a dataset version: `messages` are {role, content} mappings, in order."""

    id: str
    messages: Sequence[dict[str, str]]


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One conversation as token ids, special tokens included."""

    id: str
    ids: list[int]


def read_rows(parts: Iterable[Path], split: Split) -> Iterator[Row]:
    """Yield the rows of one split, part by part. Raises OSError for a part that cannot be read."""
    for part in parts:
        for row in pq.read_table(part, columns=list(COLUMNS)).to_pylist():
            if row["split"] == split:
                yield Row(row["id"], row["messages"])


def token_ids(tokenizer: Any, messages: Sequence[dict[str, str]], max_tokens: int) -> list[int]:
    """Return a conversation's token ids, at most `max_tokens`, cut at the end.

    With a chat template the roles are its special tokens. A base without one (the plain language models
    that LLM2Vec trains) reads the contents as lines of text.
    """
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(list(messages), tokenize=False)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    else:
        ids = tokenizer("\n".join(message["content"] for message in messages))["input_ids"]
    return list(ids[:max_tokens])


def special_token_ids(tokenizer: Any) -> frozenset[int]:
    """Return the ids of every special token: the named ones (bos, eos, ...) and the template's role markers."""
    added = tokenizer.added_tokens_decoder.items()
    return frozenset(tokenizer.all_special_ids) | {index for index, token in added if token.special}
