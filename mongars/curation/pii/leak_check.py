"""The leak check: does a redacted text still contain personal data?

It shares no code with the detectors, so that it catches their bugs: its patterns, checksums and comparison with
known values are its own, and it uses no library. It looks for fewer forms with higher precision, because one leak
quarantines a whole version.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence

_TAG = re.compile(r"<[A-Z]{2,8}_[0-9a-f]{4}>")
_CARD = re.compile(r"(?<![\d-])[3-6]\d{3}(?:([ -]?)\d{4}\1\d{4}\1\d{4}|([ -])\d{6}\2\d{5}|\d{11})(?![\d-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}[A-Z0-9]{11,30}\b")
_SSN = re.compile(r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])")
_PHONE = re.compile(r"(?<![\d.+-])(?:\(\d{3}\) ?|\d{3}-)\d{3}-\d{4}(?![\d-])")
_ABROAD = re.compile(r"(?<![\w.+-])\+[1-9]\d{0,2}(?:[ .-]?\d)?(?:[ .-]?\d{2,4}){3,5}(?![\w-])")
_FRENCH_PHONE = re.compile(r"(?<![\d.+-])0[1-9](?:([ .-]?)\d\d)(?:\1\d\d){3}(?![\w.-])")
_NIR = re.compile(r"(?<![\w-])[12] ?\d\d ?(?:0[1-9]|1[0-2]) ?\d\d ?\d{3} ?\d{3} ?\d\d(?![\w-])")
_KEY = re.compile(r"(?<![\w-])(?:ghp_[A-Za-z0-9]{36}|AKIA[0-9A-Z]{16}|sk-[A-Za-z0-9]{20,200})(?![\w-])")
_KEY_CUES = ("ghp_", "AKIA", "sk-")
_IPV4 = re.compile(r"(?<![\w.-])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w-]|\.\d)")
_MOD_97 = 97
# Known numbers, cards, national numbers and phones all have at least this many digits.
_MIN_KNOWN_DIGITS = 7
_SEPARATED = re.compile(r"\d(?:[ ().-]{0,2}\d){6,20}")
KNOWN = "KNOWN"
"""The type of a known value of the user."""


def leaks(text: str, known: Sequence[str] = ()) -> list[str]:
    """Return the types of the personal data that is still in a text; empty when clean.

    `known` are values of the user; one that is still in the text is a leak of type KNOWN.
    """
    text = _TAG.sub(" ", text)
    found = ["EMAIL"] if _has_address(text) else []
    if _SEPARATED.search(text):  # most texts have no long number
        found += _numbers(text)
    if any(_passes_mod_97(match.group()) for match in _IBAN.finditer(text)):
        found.append("IBAN")
    if any(map(text.__contains__, _KEY_CUES)) and _KEY.search(text):
        found.append("SECRET")
    if _IPV4.search(text):
        found.append("IP")
    if known and any(_known_values_in(text, known)):
        found.append(KNOWN)
    return found


def _numbers(text: str) -> Iterator[str]:
    if any(_passes_luhn(match.group()) for match in _CARD.finditer(text)):
        yield "CARD"
    if _SSN.search(text):
        yield "SSN"
    if any(form.search(text) for form in (_PHONE, _ABROAD, _FRENCH_PHONE)):
        yield "PHONE"
    if any(_passes_nir(match.group()) for match in _NIR.finditer(text)):
        yield "NATID"


def _known_values_in(text: str, known: Sequence[str]) -> Iterator[bool]:
    """Yield for each known value whether the text has it: as words without case and accents, or as digits."""
    words = f" {' '.join(_words(text))} "
    numbers = ["".join(filter(str.isdigit, match.group())) for match in _SEPARATED.finditer(text)]
    for value in known:
        number = "".join(filter(str.isdigit, value))
        if len(number) >= _MIN_KNOWN_DIGITS and not any(map(str.isalpha, value)):
            yield any(written.endswith(number) for written in numbers)
        elif wanted := _words(value):
            yield f" {' '.join(wanted)} " in words


def _words(text: str) -> list[str]:
    plain = "".join(
        char for char in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(char)
    )
    return re.findall(r"\w+", plain)


def _has_address(text: str) -> bool:
    """Report whether an "@" follows a letter or digit and precedes two parts with a dot between them."""
    pieces = text.split("@")
    for before, after in itertools.pairwise(pieces):
        host, dot, rest = after.partition(".")
        if dot and before[-1:].isalnum() and host.isalnum() and rest[:1].isalnum():
            return True
    return False


def _passes_luhn(written: str) -> bool:
    """Check Luhn's sum (ISO/IEC 7812-1, annex B): every second digit from the right is doubled, less 9 above 9."""
    digits = [int(char) for char in written if char.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]  # noqa: PLR2004 (2 x 5 > 9)
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _passes_mod_97(written: str) -> bool:
    """Check ISO 13616: with the first four characters moved to the end and letters as 10 to 35, modulo 97 is 1."""
    return int("".join(str(int(char, 36)) for char in written[4:] + written[:4])) % _MOD_97 == 1


def _passes_nir(written: str) -> bool:
    """Check the key of a French NIR: the last two digits complete the first thirteen to a multiple of 97."""
    digits = "".join(filter(str.isdigit, written))
    return (int(digits[:-2]) + int(digits[-2:])) % _MOD_97 == 0
