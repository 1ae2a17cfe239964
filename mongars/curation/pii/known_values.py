"""Known values of a user (names, e-mail addresses, phone numbers), found in any form.

Forms of a name: other spaces, case or accents, reversed (Moreau, Anna), shortened (A. Moreau), joined
(annamoreau), and its parts. Forms of an e-mail address: with (at) and (dot), and its local part unless that is a
plain word. Forms of a phone number: any separators, with and without its country code.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

from mongars.curation.pii.numbers import digits
from mongars.curation.pii.spans import PROVEN, PiiType, Span, blanked

# With fewer digits, a number could be a quantity.
_MIN_DIGITS = 7
# Digits of a number without its country code.
_NATIONAL_DIGITS = 9
_MIN_NAME_PART = 3
_GAP = r"[\s().,/_-]{0,3}"
_AT, _DOT = (
    r"\s{0,2}(?:@|[(\[{]?\s?(?:at|arobase|chez)\s?[)\]}]?)\s{0,2}",
    r"\s{0,2}(?:\.|[(\[{]?\s?(?:dot|point)\s?[)\]}]?)\s{0,2}",
)


def known_values(text: str, known: tuple[str, ...]) -> Iterator[Span]:
    """Yield the spans of `known` values, longest value first, without overlaps."""
    for pattern, kind in _patterns(known):
        found = [Span(*match.span(), kind, PROVEN) for match in pattern.finditer(text)]
        text = blanked(text, found)
        yield from found


@lru_cache(maxsize=4096)
def _patterns(known: tuple[str, ...]) -> tuple[tuple[re.Pattern[str], PiiType], ...]:
    patterns: list[tuple[str, PiiType, int]] = []
    names: list[str] = []
    for value in sorted({value.strip() for value in known}, key=lambda value: (-len(value), value)):
        if not value:
            continue
        if len(digits(value)) >= _MIN_DIGITS and not any(map(str.isalpha, value)):
            patterns.append((_number(value), PiiType.PHONE, 0))
        elif "@" in value:
            patterns += [(form, PiiType.EMAIL, re.IGNORECASE) for form in _address(value)]
        else:
            names.append(value)
            parts = value.split()
            patterns += [(form, PiiType.PERSON, re.IGNORECASE) for form in _whole_name(parts)]
            patterns += [(form, PiiType.PERSON, 0) for form in _other_orders(parts)]
    patterns += [(form, PiiType.PERSON, 0) for form in _name_parts(names)]
    return tuple((re.compile(rf"(?<!\w)(?:{form})(?!\w)", flags), kind) for form, kind, flags in patterns)


def _number(value: str) -> str:
    """Return a pattern of the number: its last nine digits, after an optional beginning."""
    written = digits(value)
    if not value.startswith(("+", "00")) and len(written) <= _NATIONAL_DIGITS:
        return _GAP.join(written)
    head, tail = written[:-_NATIONAL_DIGITS], written[-_NATIONAL_DIGITS:]
    # The beginning is a country code and further digits: +33 612345678 is also 0612345678, and +1 5145550123 is
    # also 5145550123.
    return rf"[+(]{{0,2}}(?:\d{_GAP}){{0,{len(head) + 3}}}{_GAP.join(tail)}"


def _address(value: str) -> Iterator[str]:
    local, _, host = value.partition("@")
    yield _loose(local) + _AT + _DOT.join(map(re.escape, host.split(".")))
    if any(not char.isalpha() for char in local) and len(local) > _MIN_DIGITS:
        yield _loose(local)  # anna.moreau may be a user name elsewhere


def _whole_name(parts: Sequence[str]) -> Iterator[str]:
    """Yield patterns that match in any case."""
    loose = [_loose(part) for part in parts]
    yield r"[\s.,_-]*".join(loose) if _is_long(parts) else r"\s+".join(loose)
    if len(parts) > 1:
        yield rf"{loose[-1]}\s*,\s*{loose[0]}"


def _other_orders(parts: Sequence[str]) -> Iterator[str]:
    """Yield case-sensitive patterns: "how long will it be" does not name Will Long."""
    if len(parts) > 1:
        first, last = parts[0], parts[-1]
        yield rf"{_loose(last)}\s+{_loose(first)}"
        yield rf"{re.escape(first[0])}\.?\s?{_loose(last)}"
        yield rf"{_loose(first)}\s{re.escape(last[0])}\."


def _is_long(parts: Sequence[str]) -> bool:
    """Report whether a joined name is unmistakable: willlong is, anli is not."""
    return sum(map(len, parts)) > _MIN_DIGITS


def _name_parts(names: Sequence[str]) -> Iterator[str]:
    """Yield case-sensitive patterns of single parts: "Will Long" must not match every "will"."""
    parts = {part for name in names for part in re.split(r"[\s-]", name) if len(part) >= _MIN_NAME_PART}
    for part in sorted(parts):
        if part.isalpha() and part[0].isupper():
            plain = _without_accents(part)
            yield "|".join(sorted({re.escape(form) for form in (part, part.upper(), plain, plain.upper())}))


def _loose(part: str) -> str:
    """Return a pattern of a word with or without its accents."""
    return "".join(
        re.escape(char)
        if (plain := _without_accents(char)) == char
        else f"(?:{re.escape(char)}|{re.escape(plain)})"
        for char in unicodedata.normalize("NFC", part)
    )


def _without_accents(text: str) -> str:
    decomposed = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(c for c in decomposed if not unicodedata.combining(c)))
