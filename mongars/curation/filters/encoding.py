"""Broken text: what a wrong encoding or a binary file left of a turn.

Owns what is broken about a text. Must not know conversations, nor what is done with a broken turn.
"""

import re

# U+FFFD, which decoders put in place of what they could not read; control characters but tab, line and page ends;
# noncharacters.
_LOST = r"\ufffd\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufdd0-\ufdef\ufffe\uffff"
# How the bytes that go on a character in UTF-8 (0x80 to 0xBF) look to who reads them as Latin-1 or Windows-1252.
_AFTER = r"\x80-\xbf" + "".join(bytes([byte]).decode("cp1252", "ignore") for byte in range(0x80, 0xA0))
# The first bytes before them, of Latin letters (C2, C3, C5), points and signs (E2), emoji (F0 9F) and a byte order
# mark. Other scripts read wrongly are in no language that is kept.
_MISREAD = rf"[\xc2\xc3\xc5][{_AFTER}]|\xe2[{_AFTER}]{{2}}|\xf0[\x9f\u0178][{_AFTER}]|\xef\xbb\xbf"
_BROKEN = re.compile(rf"[{_LOST}]+|{_MISREAD}")

# One lost letter in a sentence can be read over. From two broken places on that are more than one for ten words
# (French read wrongly has one for every five or six), or one for two, what is learned is the damage.
MIN_PLACES = 2
MAX_PLACES_PER_WORD = 0.1
MAX_PLACES_PER_WORD_IF_ONE = 0.5


def is_broken(text: str) -> bool:
    """Say whether so much of a turn is broken that it is damage more than talk."""
    if text.isascii() and text.isprintable():  # most turns: ten times as fast as a search
        return False
    places = len(_BROKEN.findall(text))
    if not places:
        return False
    share = places / max(1, len(text.split()))
    return share > MAX_PLACES_PER_WORD if places >= MIN_PLACES else share >= MAX_PLACES_PER_WORD_IF_ONE
