"""A line of JSON as a document, and a document as token ids.

Owns what a document is: a conversation, or a text of no speaker. Must not know Ray, packing or models.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mongars.formats.jsonl import BadLine, parse_line
from mongars.lm.chat_template import escape_special_tokens
from mongars.training.data.tokenize import token_ids

Document = str | list[dict[str, str]]
"""A text, or the messages {role, content} of a conversation."""


def read_document(path: Path, number: int, line: bytes | BadLine) -> Document | BadLine | None:
    """Return the document of a raw line, the reason why it is none, or None for a blank line.

    `{"text": ...}` is a text; everything else is read as a conversation.
    """
    text = None if isinstance(line, BadLine) else _text(line)
    if text is not None:
        return text
    found = parse_line(path, number, line)
    if found is None or isinstance(found, BadLine):
        return found
    return [{"role": turn.role, "content": turn.content} for turn in found.turns]


def document_texts(document: Document) -> Iterator[str]:
    """Yield what is said in a document."""
    if isinstance(document, str):
        yield document
    else:
        yield from (message["content"] for message in document)


def document_ids(tokenizer: Any, document: Document) -> list[int]:
    """Return a document's token ids, whole: bos (of a text or of the chat template) first, eos last."""
    if isinstance(document, str):
        content = escape_special_tokens(tokenizer, [{"content": document}])[0]["content"]
        ids: list[int] = tokenizer(content, verbose=False)["input_ids"]
    else:
        ids = token_ids(tokenizer, document, max_tokens=sys.maxsize)
    return [*ids, tokenizer.eos_token_id]


def _text(line: bytes) -> str | None:
    """Return the text of a `{"text": ...}` line, None for any other; `parse_line` says what is wrong with it."""
    if b'"text"' not in line:
        return None
    try:
        value = json.loads(line.decode("utf-8-sig"))
        text = value.get("text") if isinstance(value, dict) and "messages" not in value else None
        if not isinstance(text, str):
            return None
        text.encode("utf-8")  # half a surrogate pair has no bytes
    except (ValueError, RecursionError):
        return None
    return text
