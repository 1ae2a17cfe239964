"""Which texts are read as alike, and how conversations become pairs of them.

Owns the choice of the pairs and their tokens, which are those that `Neurons.encode` would read. Must not know
models or losses. Runs in Ray Data's tasks, so it imports neither torch nor transformers.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa

from mongars.neurons.plain_text import text_ids
from mongars.training.config import ContrastiveConfig
from mongars.training.text import TokenTable, load_tokenizer

SPEAKERS = ("user", "assistant")
IDS = pa.list_(pa.int32())
SCHEMA = pa.schema({"id": pa.string(), "query": IDS, "positive": IDS})  # a null positive is the query itself
Ids = Sequence[int]


@dataclass(frozen=True)
class PairTable:
    """Pairs of texts as token ids: pair i is row i of both tables.

    Where each text is its own positive, both are one table.
    """

    queries: TokenTable
    positives: TokenTable

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> "PairTable":
        """Return the table of rows as `tokenise_pairs` gives them, in the order of their ids."""
        rows = list(rows)
        queries = TokenTable.of((row["id"], row["query"]) for row in rows)
        if all(row["positive"] is None for row in rows):
            return cls(queries, queries)
        return cls(queries, TokenTable.of((row["id"], row["positive"]) for row in rows))

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def token_count(self) -> int:
        """Tokens of all texts; each counts once where it is its own positive."""
        own = self.positives is self.queries
        return self.queries.token_count + (0 if own else self.positives.token_count)

    @property
    def lengths(self) -> list[int]:
        """Tokens of the longer text of each pair."""
        return [max(pair) for pair in zip(self.queries.lengths, self.positives.lengths, strict=True)]


def tokenise_pairs(batch: pa.Table, *, base: str, config: ContrastiveConfig) -> pa.Table:
    """Return the pairs of a batch's `train` rows as (id, query, positive), by the tokenizer in `base`."""
    tokenizer = load_tokenizer(base)
    rows = [
        {"id": f"{row['id']}/{place}", "query": query, "positive": positive}
        for row in batch.to_pylist()
        if row["split"] == "train"
        for place, query, positive in _pairs(tokenizer, row["messages"], config)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _pairs(
    tokenizer: Any, messages: Sequence[Mapping[str, str]], config: ContrastiveConfig
) -> Iterator[tuple[int, Ids, Ids | None]]:
    """Yield (place of the query, query, positive) of one conversation."""
    texts = text_ids(tokenizer, [message["content"] for message in messages])
    kept = [
        ids[: config.max_tokens] if message["role"] in SPEAKERS and len(ids) >= config.min_tokens else None
        for message, ids in zip(messages, texts, strict=True)
    ]
    if config.pairs == "simcse":
        yield from ((place, ids, None) for place, ids in enumerate(kept) if ids)
        return
    for place, (query, positive) in enumerate(pairwise(kept)):
        if query and positive and messages[place]["role"] != messages[place + 1]["role"]:
            yield place, query, positive
