"""Copies within a conversation: an answer that only repeats what stands before it.

Owns what was said so far, as word shingles, and the thresholds. Must not know why a copy matters.
Words are compared as they are written, case and points included: an answer that sets a comma right is no copy.
"""

import json
import math
from collections.abc import Iterator
from typing import Literal

from mongars.records import Turn

Source = Literal["memory", "turn"]

SHINGLE_WORDS = 5
# "Sorry, I could not book that. Anything else?" is said twice for good reason. From 12 words on, 57 of 111,878
# answers of SGD repeat an earlier turn, 1 of 11,295 of Topical-Chat and 7 of 186,260 of the Self-dialogue Corpus;
# from 6 words on, 292, 1 and 32.
MIN_WORDS = 12
# So much of an answer stands in what it repeats. Of memories less: where two of them meet, four shingles are of
# neither, a fifth of two memories of 12 words. Of the user's words all: a near copy may be what was asked for,
# corrected.
MIN_SHARES = {"memory": 0.8, "assistant": 0.9, "user": 1.0}


class ConversationHistory:
    """The turns of one conversation up to now, and their shingles once they are asked for: 80 bytes a word."""

    def __init__(self) -> None:
        self._texts = dict.fromkeys(MIN_SHARES, "")
        self._waiting: list[tuple[str, list[str]]] = []
        self._said: dict[str, set[int]] = {source: set() for source in MIN_SHARES}

    def add(self, turn: Turn) -> None:
        """Take a turn in. Of a system turn, the recalled memories in it and its text as a whole."""
        if turn.role != "system":
            self._add(turn.role, turn.content)
            return
        for text in (turn.content, *_memories(turn.content)):
            self._add("memory", text)

    def source_of(self, text: str) -> Source | None:
        """Return what a text copies nearly whole: memories (or more of a system turn), earlier turns, or None."""
        words = text.split()
        if len(words) < MIN_WORDS:
            return None
        phrases = list(dict.fromkeys(map(" ".join, _windows(words))))
        if not any(self._may_hold(source, phrases) for source in MIN_SHARES):
            return None
        for source, waiting in self._waiting:
            self._said[source].update(_shingles(waiting))
        self._waiting.clear()
        shingles = set(_shingles(words))
        for source, said in self._said.items():
            if len(shingles & said) >= MIN_SHARES[source] * len(shingles):
                return "memory" if source == "memory" else "turn"
        return None

    def _add(self, source: str, text: str) -> None:
        words = text.split()
        self._texts[source] += " ".join(words) + "\n"
        self._waiting.append((source, words))

    def _may_hold(self, source: str, phrases: list[str]) -> bool:
        """Say whether what was said has one of so many phrases that a copy cannot lack all of them.

        Most answers have none, which costs a search or two and no shingle.
        """
        said = self._texts[source]
        enough = len(phrases) - math.ceil(MIN_SHARES[source] * len(phrases)) + 1
        return any(phrase in said for phrase in phrases[:enough])


def _shingles(words: list[str]) -> Iterator[int]:
    return (hash(tuple(window)) for window in _windows(words))


def _windows(words: list[str]) -> Iterator[list[str]]:
    return (words[start : start + SHINGLE_WORDS] for start in range(len(words) - SHINGLE_WORDS + 1))


def _memories(system: str) -> Iterator[str]:
    """Yield the texts of the memories in a system turn: one JSON object a line (see conversation/prompt.py)."""
    for line in system.splitlines():
        if line.startswith("{"):
            try:
                quoted = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(quoted, dict) and isinstance(text := quoted.get("text"), str):
                yield text
