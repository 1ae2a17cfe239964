"""Replacement of personal data: by keyed pseudonyms, by type tags, or by a mask."""

from collections.abc import Callable, Iterable
from enum import StrEnum

from mongars.curation.pii.pseudonyms import Pseudonyms
from mongars.curation.pii.spans import Span

_MASK = "█"


class Mode(StrEnum):
    """What replaces personal data."""

    PSEUDONYM = "pseudonym"
    """`<EMAIL_3f2a>`: equal for equal values of one subject."""
    TAG = "tag"
    """`<EMAIL>`: only the type."""
    MASK = "mask"
    """`█████`: only the length."""


def redact(text: str, spans: Iterable[Span], pseudonyms: Pseudonyms) -> str:
    """Return `text` with each span replaced by its pseudonym."""
    return _replaced(text, spans, lambda span, value: pseudonyms.tag(span.type, value))


def replace(text: str, spans: Iterable[Span], mode: Mode, pseudonyms: Pseudonyms) -> str:
    """Return `text` with each span replaced according to `mode`; spans must not overlap."""
    match mode:
        case Mode.PSEUDONYM:
            return redact(text, spans, pseudonyms)
        case Mode.TAG:
            return _replaced(text, spans, lambda span, _value: f"<{span.type}>")
        case Mode.MASK:
            return _replaced(text, spans, lambda _span, value: _MASK * len(value))


def _replaced(text: str, spans: Iterable[Span], by: Callable[[Span, str], str]) -> str:
    pieces: list[str] = []
    end = 0
    for span in sorted(spans, key=lambda span: span.start):
        pieces += (text[end : span.start], by(span, text[span.start : span.end]))
        end = span.end
    return "".join([*pieces, text[end:]])
