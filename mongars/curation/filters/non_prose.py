"""Turns that are not prose: encoded data, markup, lists of links, filler text and keyboard mashing.

Code is kept, and so is a link within a sentence: people ask about both.
"""

import re
from functools import lru_cache

# Longer than a SHA-256 in hex, which people ask about.
MIN_ENCODED = 80
_ENCODED = re.compile(rf"(?<!\S)(?!\w+://|www\.|/)[A-Za-z0-9+/=_-]{{{MIN_ENCODED},}}(?!\S)")
_TAG = re.compile(r"<[/!]?[A-Za-z][^<>]{0,500}>")
_LINK = re.compile(r"(?:https?://|www\.)\S+")
_FENCE = "```"
# A sentence about markup has one or two tags; a pasted page has dozens.
MIN_TAGS = 6
MIN_LINKS = 3
MIN_FILLER = 5
# Shares of a turn's characters, not counting spaces.
MIN_SHARE = 0.5
MIN_LINK_SHARE = 0.8  # a sentence about links is mostly links, too
# "Thanks" has one vowel in six letters, and few words have a lower share ("strength", some in Czech). Of the home
# row one key in nine is a vowel. A turn is mashed if such words have MIN_LETTERS together.
VOWELS = frozenset("aeiouyàáâäãåæèéêëìíîïòóôöõøœùúûüýÿąęőűů")
MAX_VOWEL_SHARE = 0.15
MIN_WORD = 5
MIN_LETTERS = 12
MIN_LETTER_SHARE = 0.9  # code has more punctuation
MAX_CACHED_CHARS = 32
# Lorem ipsum, from Cicero's De finibus, in the order of any generator.
_LATIN_FILLER = """
    lorem ipsum dolor sit amet consectetur adipiscing elit sed eiusmod tempor incididunt ut labore et dolore magna
    aliqua enim ad minim veniam quis nostrud exercitation ullamco laboris nisi aliquip ex ea commodo consequat
"""
_FILLER = frozenset(_LATIN_FILLER.split())
_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile(r"[a-zA-Z\u00c0-\u024f]+")


def is_encoded(text: str) -> bool:
    """Report whether most of a turn is base64 or hex."""
    return len(text) >= MIN_ENCODED and _is_most(_ENCODED.findall(text), text)


def is_markup(text: str) -> bool:
    """Report whether most of a turn is HTML or XML tags outside a code fence."""
    if text.count("<") < MIN_TAGS or _FENCE in text:
        return False
    tags = _TAG.findall(text)
    return len(tags) >= MIN_TAGS and _is_most(tags, text)


def is_links(text: str) -> bool:
    """Report whether a turn is several links and little else. One or two links may be an answer."""
    if text.count("http") + text.count("www.") < MIN_LINKS:
        return False
    links = _LINK.findall(text)
    return len(links) >= MIN_LINKS and _is_most(links, text, MIN_LINK_SHARE)


def is_filler(text: str) -> bool:
    """Report whether most words of a turn are lorem ipsum."""
    words = _WORD.findall(text.lower())
    return len(words) >= MIN_FILLER and sum(word in _FILLER for word in words) > MIN_SHARE * len(words)


def is_mashed(text: str) -> bool:
    """Report whether most letters of a turn are in long words of Latin letters with hardly any vowels.

    Misses mashing on the upper row, which has vowels, and everything that looks like code.
    """
    words = _WORD.findall(text)
    counts = (_cached_letters(word) if len(word) <= MAX_CACHED_CHARS else _mashed_letters(word) for word in words)
    mashed, letters = sum(counts), sum(map(len, words))
    if mashed < MIN_LETTERS or letters < MIN_LETTER_SHARE * len("".join(text.split())):
        return False
    return mashed >= MIN_SHARE * letters


def _mashed_letters(word: str) -> int:
    """Return the length of a long word with hardly any vowels, 0 for any other."""
    if len(word) < MIN_WORD or not _LATIN.fullmatch(word):
        return 0
    return len(word) if sum(letter in VOWELS for letter in word.lower()) < MAX_VOWEL_SHARE * len(word) else 0


# Most words recur. Long ones do not, and would fill the memory.
_cached_letters = lru_cache(maxsize=1 << 14)(_mashed_letters)


def _is_most(parts: list[str], text: str, share: float = MIN_SHARE) -> bool:
    return sum(map(len, parts)) > share * len("".join(text.split()))
