"""Conversations of a dataset version as token ids.

Runs in Ray Data's tasks, so it imports neither torch nor transformers at the top.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mongars.lm.chat_template import escape_special_tokens, special_tokens

Split = Literal["train", "test"]
COLUMNS = ("id", "split", "messages")


@dataclass(frozen=True, slots=True)
class Row:
    """A conversation of a dataset version; `messages` are {role, content} mappings."""

    id: str
    messages: Sequence[dict[str, str]]


@dataclass(frozen=True)
class TokenTable:
    """Conversations as token ids, in one array that processes of a machine can share.

    Row i has the id `ids[i]` and the tokens [offsets[i], offsets[i + 1]). Arrays are int32 [tokens] and
    int64 [rows + 1].
    """

    ids: tuple[str, ...]
    tokens: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, rows: Iterable[tuple[str, Sequence[int]]]) -> "TokenTable":
        """Return the table of (id, token ids) rows, in the order of their ids."""
        ordered = sorted(rows, key=lambda row: row[0])
        tokens = [np.asarray(ids, dtype=np.int32) for _, ids in ordered]
        offsets = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
        joined = np.concatenate(tokens) if tokens else np.zeros(0, dtype=np.int32)
        return cls(tuple(row_id for row_id, _ in ordered), joined, offsets)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def token_count(self) -> int:
        """Tokens of all rows."""
        return int(self.tokens.size)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        lengths: list[int] = np.diff(self.offsets).tolist()
        return lengths

    def row(self, index: int) -> np.ndarray:
        """Return the token ids of a row."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]


def read_rows(parts: Iterable[Path], split: Split) -> Iterator[Row]:
    """Yield the rows of one split, part by part. Raises OSError for a part that cannot be read."""
    for part in parts:
        for row in pq.read_table(part, columns=list(COLUMNS)).to_pylist():
            if row["split"] == split:
                yield Row(row["id"], row["messages"])


def token_ids(tokenizer: Any, messages: Sequence[dict[str, str]], max_tokens: int) -> list[int]:
    """Return a conversation's token ids, truncated to `max_tokens`.

    A chat template marks roles by special tokens. Without one, as in the plain language models that LLM2Vec
    trains, the contents are lines of text.
    """
    if not messages:
        return []
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(escape_special_tokens(tokenizer, messages), tokenize=False)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    else:
        ids = tokenizer("\n".join(message["content"] for message in messages))["input_ids"]
    return list(ids[:max_tokens])


def tokenise_batch(batch: pa.Table, *, base: str, max_tokens: int) -> pa.Table:
    """Return the `train` rows of a batch as (id, tokens), tokenised by the tokenizer in the folder `base`.

    Rows of fewer than two tokens are left out, because position 0 is never predicted.
    """
    tokenizer = load_tokenizer(base)
    rows = [
        {"id": row["id"], "tokens": token_ids(tokenizer, row["messages"], max_tokens)}
        for row in batch.to_pylist()
        if row["split"] == "train"
    ]
    schema = pa.schema({"id": pa.string(), "tokens": pa.list_(pa.int32())})
    return pa.Table.from_pylist([row for row in rows if len(row["tokens"]) > 1], schema=schema)


@lru_cache(maxsize=1)
def load_tokenizer(base: str) -> Any:
    """Return the tokenizer in a folder, cached in this process. Raises InputError for a damaged one."""
    from transformers import AutoTokenizer

    from mongars.lm.base import naming_base

    with naming_base(Path(base)):
        return AutoTokenizer.from_pretrained(base, local_files_only=True)


def special_token_ids(tokenizer: Any) -> frozenset[int]:
    """Return the ids of all special tokens: the named ones (bos, eos, ...) and the template's role markers."""
    return frozenset(tokenizer.convert_tokens_to_ids(sorted(special_tokens(tokenizer))))
