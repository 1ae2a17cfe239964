"""Held-out turns to search with: a user's turn is the query, the turn that answers it is the right document.

Owns the choice of the pairs, the corpus and the scores by conversation. Must not know models: texts go out,
vectors come in.

The documents are the different answers: answers of the same text are one document, right for every query
that it answers, because no ranking could tell them apart. A text that is asked several times is a query each
time, and each time its own answer alone is right: then no encoder reaches 1, the champion no more than the
candidate.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mongars.evaluation.embedding_quality import CUTOFF, retrieval
from mongars.evaluation.metrics import ItemMeans, TurnSearch
from mongars.training.data.tokenize import Row

# Pairs of one evaluation, which runs twice in a cycle. The standard error of a mean of 1,000 scores is
# below 0.016.
MAX_PAIRS = 1000
# Among fewer, chance alone finds more than a tenth of the answers in the first ten.
MIN_DOCUMENTS = 10 * CUTOFF


@dataclass(frozen=True, slots=True)
class TurnPair:
    """A user's turn and its answer, in a conversation."""

    conversation: str
    query: str
    answer: str


class TurnCorpus:
    """Pairs with their texts, each text once: `texts` are to be encoded, in that order."""

    def __init__(self, pairs: Sequence[TurnPair]) -> None:
        self.pairs = pairs
        self.texts = sorted({text for pair in pairs for text in (pair.query, pair.answer)})
        place = {text: index for index, text in enumerate(self.texts)}
        self._queries = np.array([place[pair.query] for pair in pairs], dtype=np.int64)
        self._answers = np.array([place[pair.answer] for pair in pairs], dtype=np.int64)
        self._documents, self._right = np.unique(self._answers, return_inverse=True)

    def positives(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors of the queries and of their answers, [pairs, d] each, from those of `texts`."""
        return vectors[self._queries], vectors[self._answers]

    def search(self, vectors: np.ndarray) -> TurnSearch | None:
        """Return recall@10 and nDCG@10 of each query, by conversation; None where the documents are too few.

        `vectors` [texts, d] are of length 1. Raises InputError for scores that are not finite.
        """
        if len(self._documents) < MIN_DOCUMENTS:
            return None
        found = retrieval(vectors[self._queries] @ vectors[self._documents].T, self._right)
        return TurnSearch(self._by_conversation(found.recall_at_10), self._by_conversation(found.ndcg_at_10))

    def _by_conversation(self, scores: np.ndarray) -> ItemMeans:
        gathered: dict[str, tuple[float, int]] = {}
        for pair, score in zip(self.pairs, scores.tolist(), strict=True):
            total, count = gathered.get(pair.conversation, (0.0, 0))
            gathered[pair.conversation] = (total + score, count + 1)
        return ItemMeans(gathered)


def answered_turns(turns: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield (user's turn, the assistant's turn right after it) of (role, content) turns; neither is blank."""
    for (asker, query), (answerer, answer) in pairwise((role, content.strip()) for role, content in turns):
        if (asker, answerer) == ("user", "assistant") and query and answer:
            yield query, answer


def held_out_pairs(rows: Iterable[Row], most: int = MAX_PAIRS) -> list[TurnPair]:
    """Return the pairs of some conversations, at most `most`.

    Which ones hangs on the hash of conversation and place: not on the order of the rows, and little on what
    else is held out.
    """
    pairs = [
        (_rank(row.id, place), TurnPair(row.id, query, answer))
        for row in rows
        for place, (query, answer) in enumerate(
            answered_turns((message["role"], message["content"]) for message in row.messages)
        )
    ]
    return [pair for _, pair in sorted(pairs, key=lambda ranked: ranked[0])[:most]]


def _rank(conversation: str, place: int) -> bytes:
    return hashlib.sha256(f"{conversation}\0{place}".encode()).digest()
