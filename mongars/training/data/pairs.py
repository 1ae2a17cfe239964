"""Which texts are read as alike, and how conversations become pairs of them.

Owns the choice of the pairs and their tokens, which are those that `Neurons.encode` would read. Must not know
models or losses. Runs in Ray Data's tasks, so it imports neither torch nor transformers.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa

from mongars.lm.tokenize import tokenize
from mongars.training.config import ContrastiveConfig
from mongars.training.data.tokenize import TokenTable, load_tokenizer

SPEAKERS = ("user", "assistant")
IDS = pa.list_(pa.int32())
SCHEMA = pa.schema(  # a null positive is the query itself, a null negative none
    {"id": pa.string(), "query": IDS, "positive": IDS, "negative": IDS}
)
Ids = Sequence[int]
Told = tuple[str, str, str | None]


@dataclass(frozen=True)
class PairTable:
    """Pairs of texts as token ids: pair i is row i of each table.

    Where each text is its own positive, both are one table. `negatives` is None where no pair has one; the row of
    a pair without one is empty.
    """

    queries: TokenTable
    positives: TokenTable
    negatives: TokenTable | None = None

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> "PairTable":
        """Return the table of rows as `tokenise_pairs` gives them, in the order of their ids."""
        rows = list(rows)
        queries = TokenTable.of((row["id"], row["query"]) for row in rows)
        if all(row["positive"] is None for row in rows):
            return cls(queries, queries)
        positives = TokenTable.of((row["id"], row["positive"]) for row in rows)
        if all(row["negative"] is None for row in rows):
            return cls(queries, positives)
        return cls(queries, positives, TokenTable.of((row["id"], row["negative"] or ()) for row in rows))

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def token_count(self) -> int:
        """Tokens of all texts; each counts once where it is its own positive."""
        return sum(table.token_count for table in self._tables)

    @property
    def lengths(self) -> list[int]:
        """Tokens of the longest text of each pair."""
        return [max(pair) for pair in zip(*(table.lengths for table in self._tables), strict=True)]

    @property
    def _tables(self) -> list[TokenTable]:
        positives = [] if self.positives is self.queries else [self.positives]
        return [self.queries, *positives, *([self.negatives] if self.negatives else [])]


def tokenise_pairs(batch: pa.Table, *, base: str, config: ContrastiveConfig) -> pa.Table:
    """Return the pairs of a batch's `train` rows as rows of SCHEMA, by the tokenizer in the folder `base`."""
    tokenizer = load_tokenizer(base)
    rows = [
        {"id": f"{row['id']}/{place}", "query": query, "positive": positive, "negative": negative}
        for row in batch.to_pylist()
        if row["split"] == "train"
        for place, (query, positive, negative) in enumerate(_pairs(tokenizer, row, config))
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _pairs(
    tokenizer: Any, row: Mapping[str, Any], config: ContrastiveConfig
) -> Iterator[tuple[Ids, Ids | None, Ids | None]]:
    """Yield (query, positive, negative) of one conversation; a pair with a text that is too short is none."""
    messages = row["messages"]
    opinions = (row.get("opinions") or ()) if config.pairs == "feedback" else ()
    said = [message["content"] for message in messages]
    told = [text for opinion in opinions for text in (opinion["query"], opinion["text"])]
    distinct = list(dict.fromkeys([*said, *told]))
    ids = {
        text: tokens[: config.max_tokens] if len(tokens) >= config.min_tokens else None
        for text, tokens in zip(distinct, tokenize(tokenizer, distinct), strict=True)
    }
    if config.pairs == "simcse":
        for message in messages:
            if message["role"] in SPEAKERS and (tokens := ids[message["content"]]):
                yield tokens, None, None
        return
    for query, positive, negative in triplets(messages, opinions):
        asked, right = ids[query], ids[positive]
        if asked and right:
            yield asked, right, ids[negative] if negative else None


def triplets(messages: Sequence[Mapping[str, str]], opinions: Sequence[Mapping[str, Any]]) -> Iterator[Told]:
    """Yield (query, positive, negative or None) of neighbouring turns and of what a user said of answers.

    A turn and the next one of the other role are a pair, unless the user called the next one a bad answer to it; a
    text that the user called good is one with its query. Every bad answer to a query is a hard negative of it, a
    pair for each. `opinions` have `query`, `text` and `good`.
    """
    bad: dict[str, list[str]] = {}
    for opinion in opinions:
        if not opinion["good"]:
            bad.setdefault(opinion["query"], []).append(opinion["text"])
    neighbours = [
        (one["content"], other["content"])
        for one, other in pairwise(messages)
        if {one["role"], other["role"]} == set(SPEAKERS)
    ]
    good = [(opinion["query"], opinion["text"]) for opinion in opinions if opinion["good"]]
    for query, positive in [*neighbours, *(pair for pair in good if pair not in neighbours)]:
        negatives = bad.get(query, ())
        if positive in negatives:
            continue
        if not negatives:
            yield query, positive, None
        yield from ((query, positive, negative) for negative in negatives)
