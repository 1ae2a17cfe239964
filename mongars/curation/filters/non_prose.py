"""What was pasted or hit and not said: encoded data, markup, links, filler and mashed keys.

Owns how it looks and how much of a turn it must be. Must not know conversations, nor what is done with it. Code
stays, and so does a link within a sentence: people ask about both.
"""

import re
from functools import lru_cache

# A hash of 64 signs may be asked about.
MIN_ENCODED = 80
_ENCODED = re.compile(rf"(?<!\S)(?!\w+://|www\.|/)[A-Za-z0-9+/=_-]{{{MIN_ENCODED},}}(?!\S)")
_TAG = re.compile(r"<[/!]?[A-Za-z][^<>]{0,500}>")
_LINK = re.compile(r"(?:https?://|www\.)\S+")
_FENCE = "```"
# A sentence about a tag has one or two of them; a page that was pasted, dozens.
MIN_TAGS = 6
MIN_LINKS = 3
MIN_FILLER = 5
# So much of a turn's characters without spaces.
MIN_SHARE = 0.5
MIN_LINK_SHARE = 0.8  # a list of links is longer than what is said of them
# "Thanks" has one vowel in six letters, and few words have less: "strength", in Czech some more. Of keys hit in
# the home row a ninth are vowels. Two such words, or one that nobody would write, of so many letters together.
VOWELS = frozenset("aeiouyàáâäãåæèéêëìíîïòóôöõøœùúûüýÿąęőűů")
MAX_VOWEL_SHARE = 0.15
MIN_WORD = 5
MIN_LETTERS = 12
MIN_LETTER_SHARE = 0.9  # code has more signs
MAX_REMEMBERED = 32
# Printers' Latin, of Cicero's De finibus, in whatever order a generator puts it.
_LATIN_FILLER = """
    lorem ipsum dolor sit amet consectetur adipiscing elit sed eiusmod tempor incididunt ut labore et dolore magna
    aliqua enim ad minim veniam quis nostrud exercitation ullamco laboris nisi aliquip ex ea commodo consequat
"""
_FILLER = frozenset(_LATIN_FILLER.split())
_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile(r"[a-zA-Z\u00c0-\u024f]+")


def is_encoded(text: str) -> bool:
    """Say whether most of a turn is data in base64 or hex."""
    return len(text) >= MIN_ENCODED and _is_most(_ENCODED.findall(text), text)


def is_markup(text: str) -> bool:
    """Say whether most of a turn is tags of a page; code between fences is talked about, and stays."""
    if text.count("<") < MIN_TAGS or _FENCE in text:
        return False
    tags = _TAG.findall(text)
    return len(tags) >= MIN_TAGS and _is_most(tags, text)


def is_links(text: str) -> bool:
    """Say whether a turn is links and little else. One or two may be an answer."""
    if text.count("http") + text.count("www.") < MIN_LINKS:
        return False
    links = _LINK.findall(text)
    return len(links) >= MIN_LINKS and _is_most(links, text, MIN_LINK_SHARE)


def is_filler(text: str) -> bool:
    """Say whether most words of a turn are printers' Latin."""
    words = _WORD.findall(text.lower())
    return len(words) >= MIN_FILLER and sum(word in _FILLER for word in words) > MIN_SHARE * len(words)


def is_mashed(text: str) -> bool:
    """Say whether most letters of a turn, in Latin script, are in long words with next to no vowel.

    What is hit in the row of keys that has vowels is not found, nor is what looks like code.
    """
    words = _WORD.findall(text)
    counts = (_remembered(word) if len(word) <= MAX_REMEMBERED else _mashed_letters(word) for word in words)
    mashed, letters = sum(counts), sum(map(len, words))
    if mashed < MIN_LETTERS or letters < MIN_LETTER_SHARE * len("".join(text.split())):
        return False
    return mashed >= MIN_SHARE * letters


def _mashed_letters(word: str) -> int:
    """Return the letters of a word if it is long and has next to no vowel, else 0."""
    if len(word) < MIN_WORD or not _LATIN.fullmatch(word):
        return 0
    return len(word) if sum(letter in VOWELS for letter in word.lower()) < MAX_VOWEL_SHARE * len(word) else 0


# Most words come again, and a long one, which would take much memory, does not.
_remembered = lru_cache(maxsize=1 << 14)(_mashed_letters)


def _is_most(parts: list[str], text: str, share: float = MIN_SHARE) -> bool:
    return sum(map(len, parts)) > share * len("".join(text.split()))
