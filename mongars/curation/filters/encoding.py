"""Encoding errors: text decoded with the wrong encoding, or read from a binary file."""

import re

# The replacement character U+FFFD, control characters except whitespace, and noncharacters.
_LOST = r"\ufffd\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufdd0-\ufdef\ufffe\uffff"
# The continuation bytes of UTF-8 (0x80 to 0xBF), decoded as Latin-1 or Windows-1252.
_AFTER = r"\x80-\xbf" + "".join(bytes([byte]).decode("cp1252", "ignore") for byte in range(0x80, 0xA0))
# Lead bytes with their continuation bytes: of Latin letters (C2, C3, C5), punctuation and symbols (E2), emoji (F0
# 9F) and a byte order mark. The language filter drops other scripts.
_MISREAD = rf"[\xc2\xc3\xc5][{_AFTER}]|\xe2[{_AFTER}]{{2}}|\xf0[\x9f\u0178][{_AFTER}]|\xef\xbb\xbf"
_BROKEN = re.compile(rf"[{_LOST}]+|{_MISREAD}")

# One lost letter in a sentence does little harm. A turn is broken if it has two or more broken places at a rate
# above MAX_PLACES_PER_WORD (misdecoded French has far more), or a single one in very few words.
MIN_PLACES = 2
MAX_PLACES_PER_WORD = 0.1
MAX_PLACES_PER_WORD_IF_ONE = 0.5


def is_broken(text: str) -> bool:
    """Report whether so much of a turn is broken that it should not be learned from."""
    if text.isascii() and text.isprintable():  # most turns; much faster than the search
        return False
    places = len(_BROKEN.findall(text))
    if not places:
        return False
    share = places / max(1, len(text.split()))
    return share > MAX_PLACES_PER_WORD if places >= MIN_PLACES else share >= MAX_PLACES_PER_WORD_IF_ONE
