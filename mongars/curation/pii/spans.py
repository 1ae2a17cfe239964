"""What a finding is, and how a text is blanked where something was found.

Owns the types, the span and the blank. Must not know any detector.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class PiiType(StrEnum):
    """What a span is; also the first part of its tag, so at most eight capital letters."""

    URL_CREDENTIALS = "URL"
    SECRET = "SECRET"  # noqa: S105 (the name of a type)
    EMAIL = "EMAIL"
    DOCUMENT = "DOCUMENT"
    """A driving licence, a passport or an identity card, where the text calls it so."""
    SSN = "SSN"
    """The social security number of the United States."""
    NATIONAL_ID = "NATID"
    """Other numbers that a state gives a person: SIN, NIR, NINO and their like."""
    IBAN = "IBAN"
    MAC = "MAC"
    IP = "IP"
    CARD = "CARD"
    COORDINATES = "GEO"
    BIRTH_DATE = "BIRTH"
    PHONE = "PHONE"
    ADDRESS = "ADDRESS"
    SITE = "SITE"
    """A web site that the text calls somebody's own."""
    HANDLE = "HANDLE"
    PERSON = "PERSON"


@dataclass(frozen=True, slots=True)
class Span:
    """`text[start:end]` is of `type`; `score` (0 to 1) says how sure the detectors are, it is no probability."""

    start: int
    end: int
    type: PiiType
    score: float


# Checked by a checksum or an unmistakable form; by a form; by a form that other things share, in a fitting
# context.
PROVEN, FORMED, LIKELY = 0.99, 0.9, 0.6
# Private use character: no detector's pattern contains it, so that no match reaches across a blank.
BLANK = "\ue000"


def match_with_cue(text: str, cues: Iterable[str], pattern: re.Pattern[str], kind: PiiType) -> Iterator[Span]:
    """Yield each `value` of a pattern that asks for words around it, in a text that has one of the cues.

    Cues are in lower case. They are searched first, because most texts have none.
    """
    lower = text.lower()
    if any(map(lower.__contains__, cues)):
        for match in pattern.finditer(text):
            yield Span(*match.span("value"), kind, LIKELY)


def blanked(text: str, spans: Iterable[Span]) -> str:
    """Return the text, as long as before, with the spans blanked out."""
    pieces: list[str] = []
    end = 0
    for span in sorted(spans, key=lambda span: span.start):
        pieces += (text[end : span.start], BLANK * (span.end - span.start))
        end = span.end
    return "".join([*pieces, text[end:]]) if pieces else text
