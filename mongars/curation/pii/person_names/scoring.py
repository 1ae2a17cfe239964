"""Scores of candidate words: sums of weights, with the parts that depend on one word cached.

The weights are float16, so their sums are exact in float64 and do not depend on the order.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from mongars.curation.pii.person_names.features import (
    EDGE_AFTER,
    EDGE_BEFORE,
    EDGES,
    Form,
    form_features,
    pair_features,
    read_tokens,
    word_facts,
)

# Cached words, about a kilobyte each; they cover nearly all words of chat.
_CACHED = 1 << 14


class _Weighed(NamedTuple):
    """WordFacts with sums of weights instead of buckets."""

    is_candidate: bool
    form: Form
    encoded: bytes
    own: float
    before: float
    after: float


class NameScores:
    """Scores of words by `weights`, one for each bucket."""

    def __init__(self, weights: Sequence[float]) -> None:
        self._weights = weights
        self._weigh = lru_cache(maxsize=_CACHED)(self._weighed)
        self._look = lru_cache(maxsize=_CACHED)(self._looks)
        self._starts, self._ends = list(map(self._weigh, EDGE_BEFORE)), list(map(self._weigh, EDGE_AFTER))

    def of(self, text: str) -> dict[int, float]:
        """Return the score of each candidate word by its index among `read_tokens`."""
        words = [*self._starts, *map(self._weigh, read_tokens(text)), *self._ends]
        return {place - EDGES: self._sum(words, place) for place, word in enumerate(words) if word.is_candidate}

    def _sum(self, words: Sequence[_Weighed], place: int) -> float:
        second_before, before, word, after, second_after = words[place - EDGES : place + EDGES + 1]
        weights = self._weights
        one, two, three, four = pair_features(second_before, before, word, after, second_after)
        return (
            word.own
            + before.before
            + after.after
            + weights[one]
            + weights[two]
            + weights[three]
            + weights[four]
            + self._look(word.form, before.form, after.form)
        )

    def _weighed(self, token: str) -> _Weighed:
        facts, weights = word_facts(token), self._weights
        return _Weighed(
            *facts[:3],
            sum(weights[bucket] for bucket in facts.own),
            weights[facts.before],
            weights[facts.after],
        )

    def _looks(self, word: Form, before: Form, after: Form) -> float:
        return sum(self._weights[bucket] for bucket in form_features(word, before, after))
