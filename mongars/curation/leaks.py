"""The second look: does a redacted text still hold something shaped like personal data?

Owns a check that shares no code with the detectors in `pii.py`, so that a fault there is seen here: own shapes,
own checksums, no library. It looks for less and is surer of it, since one leak quarantines a whole version.
"""

import itertools
import re

_TAG = re.compile(r"<[A-Z]{2,8}_[0-9a-f]{4}>")
_CARD = re.compile(r"(?<![\d-])[3-6]\d{3}(?:([ -]?)\d{4}\1\d{4}\1\d{4}|([ -])\d{6}\2\d{5}|\d{11})(?![\d-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}[A-Z0-9]{11,30}\b")
_SSN = re.compile(r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])")
_PHONE = re.compile(r"(?<![\d.+-])(?:\(\d{3}\) ?|\d{3}-)\d{3}-\d{4}(?![\d-])")
_MOD_97 = 97


def leaks(text: str) -> list[str]:
    """Return the types of what still looks like personal data, in order of the text's checks; empty when clean."""
    text = _TAG.sub(" ", text)
    found = ["EMAIL"] if _has_address(text) else []
    if any(_passes_luhn(match.group()) for match in _CARD.finditer(text)):
        found.append("CARD")
    if any(_passes_mod_97(match.group()) for match in _IBAN.finditer(text)):
        found.append("IBAN")
    if _SSN.search(text):
        found.append("SSN")
    if _PHONE.search(text):
        found.append("PHONE")
    return found


def _has_address(text: str) -> bool:
    """Say whether some "@" has a letter or digit before it and two dotted parts behind it."""
    pieces = text.split("@")
    for before, after in itertools.pairwise(pieces):
        host, dot, rest = after.partition(".")
        if dot and before[-1:].isalnum() and host.isalnum() and rest[:1].isalnum():
            return True
    return False


def _passes_luhn(written: str) -> bool:
    """Luhn's sum (ISO/IEC 7812-1, annex B): every second digit from the right doubled, less nine above nine."""
    digits = [int(char) for char in written if char.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]  # noqa: PLR2004 (2 x 5 > 9)
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _passes_mod_97(written: str) -> bool:
    """The check of ISO 13616: the first four signs moved to the end, letters as 10 to 35, leave 1 modulo 97."""
    return int("".join(str(int(char, 36)) for char in written[4:] + written[:4])) % _MOD_97 == 1
