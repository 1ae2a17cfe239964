"""Repetition within a conversation: an answer that only copies earlier turns or recalled memories.

Words are compared exactly, with case and punctuation: an answer that corrects a comma is not a copy.
"""

import json
import math
from collections.abc import Iterator
from typing import Literal

from mongars.records import Turn

Source = Literal["memory", "turn"]

SHINGLE_WORDS = 5
# Short answers such as "Sorry, I could not book that." may be repeated for good reason. Answers of this length
# hardly ever repeat an earlier turn in good dialogues.
MIN_WORDS = 12
# The share of an answer's shingles that its source must contain. Lower for memories, because the shingles across
# the boundary of two joined memories are in neither. All for the user's words, because a near copy may be the
# correction that the user wants.
MIN_SHARES = {"memory": 0.8, "assistant": 0.9, "user": 1.0}


class ConversationHistory:
    """The earlier turns of a conversation; their shingles are computed when first needed."""

    def __init__(self) -> None:
        self._texts = dict.fromkeys(MIN_SHARES, "")
        self._pending: list[tuple[str, list[str]]] = []
        self._shingles: dict[str, set[int]] = {source: set() for source in MIN_SHARES}

    def add(self, turn: Turn) -> None:
        """Add a turn. A system turn counts as memory: each recalled memory in it, and the whole text."""
        if turn.role != "system":
            self._add(turn.role, turn.content)
            return
        for text in (turn.content, *_memories(turn.content)):
            self._add("memory", text)

    def source_of(self, text: str) -> Source | None:
        """Return the source of nearly all of a text: "memory" (also system turns), an earlier "turn", or None."""
        words = text.split()
        if len(words) < MIN_WORDS:
            return None
        phrases = list(dict.fromkeys(map(" ".join, _windows(words))))
        if not any(self._may_contain(source, phrases) for source in MIN_SHARES):
            return None
        for source, words_of_turn in self._pending:
            self._shingles[source].update(_shingles(words_of_turn))
        self._pending.clear()
        shingles = set(_shingles(words))
        for source, known in self._shingles.items():
            if len(shingles & known) >= MIN_SHARES[source] * len(shingles):
                return "memory" if source == "memory" else "turn"
        return None

    def _add(self, source: str, text: str) -> None:
        words = text.split()
        self._texts[source] += " ".join(words) + "\n"
        self._pending.append((source, words))

    def _may_contain(self, source: str, phrases: list[str]) -> bool:
        """Report whether the source contains any of the first phrases; a copy cannot lack all of these.

        Most answers stop here, after a search or two, without any shingle.
        """
        text = self._texts[source]
        enough = len(phrases) - math.ceil(MIN_SHARES[source] * len(phrases)) + 1
        return any(phrase in text for phrase in phrases[:enough])


def _shingles(words: list[str]) -> Iterator[int]:
    return (hash(tuple(window)) for window in _windows(words))


def _windows(words: list[str]) -> Iterator[list[str]]:
    return (words[start : start + SHINGLE_WORDS] for start in range(len(words) - SHINGLE_WORDS + 1))


def _memories(system: str) -> Iterator[str]:
    """Yield the texts of the memories in a system turn: one JSON object per line, see conversation/prompt.py."""
    for line in system.splitlines():
        if line.startswith("{"):
            try:
                quoted = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(quoted, dict) and isinstance(text := quoted.get("text"), str):
                yield text
