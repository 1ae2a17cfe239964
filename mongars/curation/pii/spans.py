"""Spans of personal data, their types, and the blanking of spans in a text."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class PiiType(StrEnum):
    """The type of a span; also the first part of its tag, so at most eight capital letters."""

    URL_CREDENTIALS = "URL"
    SECRET = "SECRET"  # noqa: S105 (the name of a type)
    EMAIL = "EMAIL"
    DOCUMENT = "DOCUMENT"
    """The number of a driving licence, passport or identity card, named as such by the text."""
    SSN = "SSN"
    """The social security number of the United States."""
    NATIONAL_ID = "NATID"
    """Other national numbers of people, such as SIN, NIR and NINO."""
    IBAN = "IBAN"
    MAC = "MAC"
    IP = "IP"
    CARD = "CARD"
    COORDINATES = "GEO"
    BIRTH_DATE = "BIRTH"
    PHONE = "PHONE"
    ADDRESS = "ADDRESS"
    SITE = "SITE"
    """A website that the text calls somebody's own."""
    HANDLE = "HANDLE"
    PERSON = "PERSON"


@dataclass(frozen=True, slots=True)
class Span:
    """`text[start:end]` is of `type`; `score` (0 to 1) ranks the evidence and is not a probability."""

    start: int
    end: int
    type: PiiType
    score: float


# Scores of a checksum or unmistakable form, of a typical form, and of an ambiguous form in a fitting context.
PROVEN, FORMED, LIKELY = 0.99, 0.9, 0.6
# A private use character that no detector matches, so that no match extends across a blank.
BLANK = "\ue000"


def match_with_cue(text: str, cues: Iterable[str], pattern: re.Pattern[str], kind: PiiType) -> Iterator[Span]:
    """Yield the group `value` of each match of a pattern, if the text has one of the lower-case cues.

    The cues save most texts the slower search for the pattern.
    """
    lower = text.lower()
    if any(map(lower.__contains__, cues)):
        for match in pattern.finditer(text):
            yield Span(*match.span("value"), kind, LIKELY)


def blanked(text: str, spans: Iterable[Span]) -> str:
    """Return the text with the spans blanked out; its length does not change."""
    pieces: list[str] = []
    end = 0
    for span in sorted(spans, key=lambda span: span.start):
        pieces += (text[end : span.start], BLANK * (span.end - span.start))
        end = span.end
    return "".join([*pieces, text[end:]]) if pieces else text
