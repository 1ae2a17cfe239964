"""What the tagger of person names looks at: candidate words and their hashed features.

Owns the reading of a text into words and of a word into buckets; training and use share it, so that they cannot
differ. Must not know weights.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

from mongars.curation.pii.name_templates import FIRST, LAST, OTHER

BUCKETS = 1 << 16
# Raised with every change of this module: weights of another version mean nothing.
FEATURES = 1
_WORD = re.compile(r"\w+(?:['\u2019.-]\w+)*|[^\w\s]")
_POSSESSIVE = re.compile(r"['\u2019]s$")
_ENDS = frozenset('.!?:;"\u201c\u201d\u00ab\u00bb()[]*-\u2013\u2014')


_FIRST = frozenset(name.lower() for name in FIRST)
_LAST = frozenset(name.lower() for name in LAST)
_OTHER = frozenset(name.lower() for name in OTHER)


@dataclass(frozen=True, slots=True)
class Word:
    """`text[start:end]`, a word without its possessive ending, or one sign."""

    start: int
    end: int
    text: str


def read_words(text: str) -> list[Word]:
    """Return the words and signs of a text, in order."""
    words = []
    for match in _WORD.finditer(text):
        plain = _POSSESSIVE.sub("", match.group())
        words.append(Word(match.start(), match.start() + len(plain), plain))
    return words


def is_candidate(word: str) -> bool:
    """Say whether a word can be part of a name: it begins with a capital, or is a listed name in lower case."""
    return (word[0].isupper() and not any(map(str.isdigit, word))) or word in _FIRST or word in _LAST


def features(words: Sequence[str], lower: Sequence[str], place: int) -> Iterator[int]:
    """Yield the buckets of a word: itself, its ends and shape, its neighbours, and whether a sentence begins."""
    word, plain = words[place], lower[place]
    before = lower[place - 1] if place else "^"
    after = lower[place + 1] if place + 1 < len(words) else "$"
    begins = before == "^" or before in _ENDS
    shape, listed = _shape(word), _listed(plain)
    named_before = place > 0 and words[place - 1][0].isupper()
    named_after = place + 1 < len(words) and words[place + 1][0].isupper()
    for feature in (
        f"w={plain}",
        f"s2={plain[-2:]}",
        f"s3={plain[-3:]}",
        f"p3={plain[:3]}",
        f"b={before}",
        f"a={after}",
        f"ba={before} {after}",
        f"b2={lower[place - 2] if place > 1 else '^'} {before}",
        f"a2={after} {lower[place + 2] if place + 2 < len(words) else '$'}",
        f"h={shape}{begins:d}{named_before:d}{named_after:d}",
        f"l={min(len(word), 12)}{shape}",
        f"g={listed}{begins:d}{word[0].isupper():d}",
        f"gb={listed}{_listed(before)}{named_before:d}",
        f"ga={listed}{_listed(after)}{named_after:d}",
        f"gba={listed} {before}",
        "1",
    ):
        yield crc32(feature.encode()) % BUCKETS


def _listed(word: str) -> str:
    """Return in which of the lists a word is: first names, last names, other capitals."""
    return f"{word in _FIRST:d}{word in _LAST:d}{word in _OTHER:d}"


def _shape(word: str) -> str:
    if word[0].islower():
        return "x"
    if len(word) == 1:
        return "X"
    if word.isupper():
        return "XX"
    return "Xx" if word[1:].islower() else "xX"
