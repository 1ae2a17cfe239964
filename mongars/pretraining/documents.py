"""Documents of the pretraining text: read from a line of JSON, as token ids, packed into rows.

A document is a conversation or a text without speakers. Documents are ordered by a hash of their position and the
seed, in groups that are packed separately: tasks can pack in parallel, and the rows do not depend on how the input
was split into tasks.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mongars.formats.jsonl import BadLine, parse_line
from mongars.lm.chat_template import escape_special_tokens
from mongars.training.data.tokenize import token_ids

GROUPS = 16  # the incomplete last row of a group is dropped: at most GROUPS x context tokens of the whole text
Document = str | list[dict[str, str]]
"""A text, or the messages {role, content} of a conversation."""


def read_document(path: Path, number: int, line: bytes | BadLine) -> Document | BadLine | None:
    """Return the document of a raw line, a BadLine with the reason, or None for a blank line.

    `{"text": ...}` is a text; anything else is parsed as a conversation.
    """
    text = None if isinstance(line, BadLine) else _text(line)
    if text is not None:
        return text
    found = parse_line(path, number, line)
    if found is None or isinstance(found, BadLine):
        return found
    return [{"role": turn.role, "content": turn.content} for turn in found.turns]


def document_texts(document: Document) -> Iterator[str]:
    """Yield the texts of a document, without roles."""
    if isinstance(document, str):
        yield document
    else:
        yield from (message["content"] for message in document)


def document_ids(tokenizer: Any, document: Document) -> list[int]:
    """Return all token ids of a document, from bos (added, or from the chat template) to eos."""
    if isinstance(document, str):
        content = escape_special_tokens(tokenizer, [{"content": document}])[0]["content"]
        ids: list[int] = tokenizer(content, verbose=False)["input_ids"]
    else:
        ids = token_ids(tokenizer, document, max_tokens=sys.maxsize)
    return [*ids, tokenizer.eos_token_id]


def document_order(seed: int, key: int) -> int:
    """Return the sort key of a document, 63 bits; `key` is that of its line."""
    digest = hashlib.blake2b(key.to_bytes(8, "big"), digest_size=8, key=seed.to_bytes(8, "big")).digest()
    return int.from_bytes(digest, "big") >> 1


def pack(documents: Sequence[Sequence[int]], context: int) -> np.ndarray:
    """Return the concatenated documents cut into rows, int32 [rows, context]; the rest is dropped."""
    tokens = np.concatenate([np.asarray(ids, dtype=np.int32) for ids in documents] or [np.zeros(0, np.int32)])
    rows = len(tokens) // context
    return tokens[: rows * context].reshape(rows, context)


def _text(line: bytes) -> str | None:
    """Return the text of a `{"text": ...}` line; None for any other, which `parse_line` then reads or refuses."""
    if b'"text"' not in line:
        return None
    try:
        value = json.loads(line.decode("utf-8-sig"))
        text = value.get("text") if isinstance(value, dict) and "messages" not in value else None
        if not isinstance(text, str):
            return None
        text.encode("utf-8")  # fails for an unpaired surrogate
    except (ValueError, RecursionError):
        return None
    return text
