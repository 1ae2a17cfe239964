"""Retrieval over held-out conversations: a user's turn is the query, the turn that answers it is relevant.

The documents are the distinct answers: equal answers are one document, relevant to every query that it answers,
because no ranking could separate them. A text that users asked several times is a query each time, and only its
own answer is relevant; no encoder then reaches 1, the champion no more than the candidate.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mongars.evaluation.embedding_quality import CUTOFF, retrieval
from mongars.evaluation.metrics import ItemMeans, TurnSearch
from mongars.training.data.tokenize import Row

# An evaluation runs twice in a cycle. The standard error of a mean of 1,000 scores is below 0.016.
MAX_PAIRS = 1000
# With fewer documents, chance puts more than a tenth of the answers into the first ten.
MIN_DOCUMENTS = 10 * CUTOFF


@dataclass(frozen=True, slots=True)
class TurnPair:
    """A user's turn and the answer to it."""

    conversation: str
    query: str
    answer: str


class TurnCorpus:
    """Queries and documents of pairs. `texts` are the distinct texts to encode, in that order."""

    def __init__(self, pairs: Sequence[TurnPair]) -> None:
        self.pairs = pairs
        self.texts = sorted({text for pair in pairs for text in (pair.query, pair.answer)})
        index_of = {text: index for index, text in enumerate(self.texts)}
        self._queries = np.array([index_of[pair.query] for pair in pairs], dtype=np.int64)
        self._answers = np.array([index_of[pair.answer] for pair in pairs], dtype=np.int64)
        self._documents, self._relevant = np.unique(self._answers, return_inverse=True)

    def positives(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors of queries and of their answers, [pairs, d] each, given those of `texts`."""
        return vectors[self._queries], vectors[self._answers]

    def search(self, vectors: np.ndarray) -> TurnSearch | None:
        """Return recall@10 and nDCG@10 by conversation, or None if there are too few documents.

        `vectors` are unit vectors [texts, d]. Raises InputError for scores that are not finite.
        """
        if len(self._documents) < MIN_DOCUMENTS:
            return None
        found = retrieval(vectors[self._queries] @ vectors[self._documents].T, self._relevant)
        return TurnSearch(self._by_conversation(found.recall_at_10), self._by_conversation(found.ndcg_at_10))

    def _by_conversation(self, scores: np.ndarray) -> ItemMeans:
        gathered: dict[str, tuple[float, int]] = {}
        for pair, score in zip(self.pairs, scores.tolist(), strict=True):
            total, count = gathered.get(pair.conversation, (0.0, 0))
            gathered[pair.conversation] = (total + score, count + 1)
        return ItemMeans(gathered)


def answered_turns(turns: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield each user's turn with the assistant's turn right after it, from (role, content); neither is blank."""
    for (asker, query), (answerer, answer) in pairwise((role, content.strip()) for role, content in turns):
        if (asker, answerer) == ("user", "assistant") and query and answer:
            yield query, answer


def held_out_pairs(rows: Iterable[Row], most: int = MAX_PAIRS) -> list[TurnPair]:
    """Return at most `most` pairs of the conversations.

    A hash of conversation and position chooses them, so neither the order of the rows nor, for the most part, the
    other held-out conversations matter.
    """
    pairs = [
        (_hash(row.id, index), TurnPair(row.id, query, answer))
        for row in rows
        for index, (query, answer) in enumerate(
            answered_turns((message["role"], message["content"]) for message in row.messages)
        )
    ]
    return [pair for _, pair in sorted(pairs, key=lambda hashed: hashed[0])[:most]]


def _hash(conversation: str, index: int) -> bytes:
    return hashlib.sha256(f"{conversation}\0{index}".encode()).digest()
