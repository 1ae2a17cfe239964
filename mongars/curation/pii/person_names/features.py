"""The features of the tagger of person names: candidate words and their hashed features.

Training and inference share this module, so that their features are equal.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, Protocol
from zlib import crc32

from mongars.curation.pii.person_names.templates import FIRST, LAST, OTHER

BUCKETS = 1 << 16
# Raised with every change of the features: weights of another version are invalid.
FEATURES = 1
_WORD = re.compile(r"\w+(?:['\u2019.-]\w+)*|[^\w\s]")
_POSSESSIVES = ("'s", "\u2019s")
# Number of neighbours on each side that features use, and their placeholders at the ends of a text.
EDGES = 2
EDGE_BEFORE, EDGE_AFTER = ("^",) * EDGES, ("$",) * EDGES
_ENDS = frozenset('.!?:;"\u201c\u201d\u00ab\u00bb()[]*-\u2013\u2014' + "^")

_FIRST = frozenset(name.lower() for name in FIRST)
_LAST = frozenset(name.lower() for name in LAST)
_OTHER = frozenset(name.lower() for name in OTHER)


class Word(NamedTuple):
    """`text[start:end]`: a word without its possessive ending, or a punctuation mark."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """How a word looks. There are few forms and each exists once, so that they are compared by identity."""

    shape: str
    listed: str
    """Three digits: whether it is a listed first name, last name, other capitalised word."""
    capital: bool
    ends_sentence: bool


class WordLike(Protocol):
    """What features of two words need from each."""

    @property
    def form(self) -> Form:
        """The form of the word."""

    @property
    def encoded(self) -> bytes:
        """The word in lower case, in UTF-8."""


class WordFacts(NamedTuple):
    """Everything about a word that does not depend on its neighbours.

    `own` has the buckets of a candidate's own features and is empty for other words. `before` and `after` are the
    buckets of the word as a neighbour of a candidate.
    """

    is_candidate: bool
    form: Form
    encoded: bytes
    own: tuple[int, ...]
    before: int
    after: int


def read_tokens(text: str) -> list[str]:
    """Return the words, with possessive endings, and punctuation marks of a text."""
    return _WORD.findall(text)


def read_matches(text: str) -> Iterator[re.Match[str]]:
    """Yield the match of each token."""
    return _WORD.finditer(text)


def word_at(match: re.Match[str]) -> Word:
    """Return the word or punctuation mark of a token."""
    plain = _plain(match.group())
    return Word(match.start(), match.start() + len(plain), plain)


def read_facts(text: str) -> list[WordFacts]:
    """Return the facts of each word, with those of EDGE_BEFORE and EDGE_AFTER at the ends."""
    return [word_facts(token) for token in (*EDGE_BEFORE, *read_tokens(text), *EDGE_AFTER)]


def word_facts(token: str) -> WordFacts:
    """Return the facts of a token."""
    word = _plain(token)
    plain, form, is_candidate = word.lower(), _form_of(word), _is_candidate(word)
    encoded = _encoded(plain)
    return WordFacts(
        is_candidate=is_candidate,
        form=form,
        encoded=encoded,
        own=_own(word, plain, form.shape) if is_candidate else (),
        before=_bucket(b"b=" + encoded),
        after=_bucket(b"a=" + encoded),
    )


def _own(word: str, plain: str, shape: str) -> tuple[int, ...]:
    """Return the buckets of the word, its last two, last three and first three letters, its length, and a bias."""
    names = (
        f"w={plain}",
        f"s2={plain[-2:]}",
        f"s3={plain[-3:]}",
        f"p3={plain[:3]}",
        f"l={min(len(word), 12)}{shape}",
        "1",
    )
    return tuple(_bucket(_encoded(feature)) for feature in names)


def features(words: Sequence[WordFacts], place: int) -> tuple[int, ...]:
    """Return the buckets of the word at `place` of `read_facts`.

    Training sums them in this order, on which the last bits of its sums depend.
    """
    second_before, before, word, after, second_after = words[place - EDGES : place + EDGES + 1]
    itself, last_two, last_three, first_three, length, bias = word.own
    sides, two_before, two_after, listed_before = pair_features(second_before, before, word, after, second_after)
    shape, listed, listed_first, listed_then = form_features(word.form, before.form, after.form)
    return (
        *(itself, last_two, last_three, first_three),
        *(before.before, after.after, sides, two_before, two_after),
        *(shape, length, listed, listed_first, listed_then, listed_before, bias),
    )


def pair_features(
    second_before: WordLike, before: WordLike, word: WordLike, after: WordLike, second_after: WordLike
) -> tuple[int, int, int, int]:
    """Return the buckets of features of two words."""
    previous, following = before.encoded, after.encoded
    return (
        crc32(b"ba=" + previous + b" " + following) % BUCKETS,
        crc32(b"b2=" + second_before.encoded + b" " + previous) % BUCKETS,
        crc32(b"a2=" + following + b" " + second_after.encoded) % BUCKETS,
        crc32(b"gba=" + word.form.listed.encode() + b" " + previous) % BUCKETS,
    )


def form_features(word: Form, before: Form, after: Form) -> tuple[int, ...]:
    """Return the buckets of the forms of a word and its neighbours, and of the start of a sentence."""
    begins, listed = before.ends_sentence, word.listed
    names = (
        f"h={word.shape}{begins:d}{before.capital:d}{after.capital:d}",
        f"g={listed}{begins:d}{word.capital:d}",
        f"gb={listed}{before.listed}{before.capital:d}",
        f"ga={listed}{after.listed}{after.capital:d}",
    )
    return tuple(_bucket(_encoded(feature)) for feature in names)


def _plain(token: str) -> str:
    return token[:-2] if token.endswith(_POSSESSIVES) else token


def _is_candidate(word: str) -> bool:
    """Report whether a word can be part of a name: it is capitalised, or a listed name in lower case."""
    return (word[0].isupper() and not any(map(str.isdigit, word))) or word in _FIRST or word in _LAST


def _form_of(word: str) -> Form:
    plain = word.lower()
    listed = f"{plain in _FIRST:d}{plain in _LAST:d}{plain in _OTHER:d}"
    return _form(_shape(word), listed, word[0].isupper(), plain in _ENDS)


@cache
def _form(shape: str, listed: str, capital: bool, ends_sentence: bool) -> Form:
    return Form(shape, listed, capital, ends_sentence)


def _bucket(feature: bytes) -> int:
    return crc32(feature) % BUCKETS


def _encoded(text: str) -> bytes:
    """Encode a text that may contain half a surrogate pair, as JSON can."""
    return text.encode("utf-8", "surrogatepass")


def _shape(word: str) -> str:
    if word[0].islower():
        return "x"
    if len(word) == 1:
        return "X"
    if word.isupper():
        return "XX"
    return "Xx" if word[1:].islower() else "xX"
