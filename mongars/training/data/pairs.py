"""Pairs of similar texts from conversations, with the tokens that `Neurons.encode` would use.

Runs in Ray Data's tasks, so it imports neither torch nor transformers.
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
SCHEMA = pa.schema(  # a null positive stands for the query itself; a null negative for none
    {"id": pa.string(), "query": IDS, "positive": IDS, "negative": IDS}
)
Ids = Sequence[int]
Triplet = tuple[str, str, str | None]


@dataclass(frozen=True)
class PairTable:
    """Pairs of texts as token ids: pair i is row i of each table.

    If each text is its own positive, both are the same table. `negatives` is None if no pair has one; otherwise
    the rows of pairs without one are empty.
    """

    queries: TokenTable
    positives: TokenTable
    negatives: TokenTable | None = None

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> "PairTable":
        """Return the table of rows from `tokenise_pairs`, in the order of their ids."""
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
        """Tokens of all texts; a text that is its own positive counts once."""
        return sum(table.token_count for table in self._tables)

    @property
    def lengths(self) -> list[int]:
        """Tokens of the longest text in each pair."""
        return [max(pair) for pair in zip(*(table.lengths for table in self._tables), strict=True)]

    @property
    def _tables(self) -> list[TokenTable]:
        positives = [] if self.positives is self.queries else [self.positives]
        return [self.queries, *positives, *([self.negatives] if self.negatives else [])]


def tokenise_pairs(batch: pa.Table, *, base: str, config: ContrastiveConfig) -> pa.Table:
    """Return the pairs of a batch's `train` rows as rows of SCHEMA, tokenised by the tokenizer in `base`."""
    tokenizer = load_tokenizer(base)
    rows = [
        {"id": f"{row['id']}/{index}", "query": query, "positive": positive, "negative": negative}
        for row in batch.to_pylist()
        if row["split"] == "train"
        for index, (query, positive, negative) in enumerate(_pairs(tokenizer, row, config))
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _pairs(
    tokenizer: Any, row: Mapping[str, Any], config: ContrastiveConfig
) -> Iterator[tuple[Ids, Ids | None, Ids | None]]:
    """Yield (query, positive, negative) of one conversation, without pairs of too short texts."""
    messages = row["messages"]
    opinions = (row.get("opinions") or ()) if config.pairs == "feedback" else ()
    contents = [message["content"] for message in messages]
    rated = [text for opinion in opinions for text in (opinion["query"], opinion["text"])]
    distinct = list(dict.fromkeys([*contents, *rated]))
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
        query_ids, positive_ids = ids[query], ids[positive]
        if query_ids and positive_ids:
            yield query_ids, positive_ids, ids[negative] if negative else None


def triplets(messages: Sequence[Mapping[str, str]], opinions: Sequence[Mapping[str, Any]]) -> Iterator[Triplet]:
    """Yield (query, positive, negative or None) from adjacent turns and from a user's opinions on answers.

    A turn and the next one of the other role are a pair, unless the user rated the second a bad answer to the
    first. A text that the user rated good is a pair with its query. A query with several bad answers gives a
    triplet for each of them. `opinions` have `query`, `text` and `good`.
    """
    bad: dict[str, list[str]] = {}
    for opinion in opinions:
        if not opinion["good"]:
            bad.setdefault(opinion["query"], []).append(opinion["text"])
    adjacent = [
        (first["content"], second["content"])
        for first, second in pairwise(messages)
        if {first["role"], second["role"]} == set(SPEAKERS)
    ]
    good = [(opinion["query"], opinion["text"]) for opinion in opinions if opinion["good"]]
    for query, positive in [*adjacent, *(pair for pair in good if pair not in adjacent)]:
        negatives = bad.get(query, ())
        if positive in negatives:
            continue
        if not negatives:
            yield query, positive, None
        yield from ((query, positive, negative) for negative in negatives)
