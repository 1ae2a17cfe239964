"""Phone numbers: by their form, by a numbering plan (`phonenumbers`), or by the words around them."""

import re
from collections.abc import Iterator

import phonenumbers

from mongars.curation.pii.spans import FORMED, LIKELY, PROVEN, PiiType, Span, blanked

# Numbers without a country code are read as North American, French or British; all others need a "+".
_WITH_ZERO = ("FR", "GB")
_EXTENSION = r"(?:[ ]?(?:x|ext\.?|poste)[ ]?\d{1,6})?"
# Forms that are used only for phone numbers, and so need no validation: 555-01xx, reserved for fiction, is in no
# numbering plan, yet people give it as their own.
_FORM = re.compile(
    r"(?<!\d)(?<!\d[.-])(?<!\+)(?:"
    r"(?:\+|00)[1-9]\d{0,2}[ .-]?(?:\(0?\d{1,4}\)|\d{1,4})(?:[ .-]?\d{2,5}){2,5}"
    r"|(?:\+?1[ .-]?)?(?:\(\d{3}\)[ ]?|\d{3}[ .-])\d{3}[ .-]\d{4}"
    r"|\(0?\d{1,4}\)[ ]?\d{2,5}(?:[ .-]\d{2,4}){1,4}"
    r"|0[1-9]\d{0,3}(?:[ .-]\d{2,4}){2,5})" + _EXTENSION + r"(?!-?\d|[a-z])",
    re.IGNORECASE,
)
# Not money, a percentage, a time, or part of a longer number or word.
_BARE = re.compile(
    r"(?<![\w.,+$€£-])\+?\d(?:[ ().-]{0,2}\d){8,14}" + _EXTENSION + r"(?![\w%€$£]|[.,:-]\d)", re.IGNORECASE
)
# Local numbers have no distinct form; a word shortly before or after distinguishes them from quantities.
_DIALLED = (
    r"(?:phone|tel|t[ée]l|call|mobile|cell|office|fax|dial|reach|ring|text|whatsapp|sms|appel|portable|joindre)\w*"
)
_BEFORE = (
    rf"(?:{_DIALLED}|contact\w*|(?:my|your|his|her|its|their|mon|ton|son|votre|leur)[ ](?:number|num[ée]ro)"
    r"|answering[ ](?:at|on)|r[ée]pond\w*[ ]au)"
)
_LOCAL = r"(?<![\d.+:/-])(?<!\d,)\(?\d(?:[ ().-]{0,2}\d){5,14}(?!-?\d|[:/,]\d)"
# A capitalised word after it makes it a street number: a taxi is called to 14 3684 Court Street.
_NO_STREET = r"(?!(?-i:\w*[ ]?[A-Z][a-z]))"
_AFTER_WORD = re.compile(rf"\b{_BEFORE}\b[^\d\n\ue000]{{0,40}}?(?P<value>{_LOCAL}{_NO_STREET})", re.IGNORECASE)
_BEFORE_WORD = re.compile(rf"(?P<value>{_LOCAL})[ -]{{0,2}}\(?{_DIALLED}\b", re.IGNORECASE)
_CUES = (
    *("phone", "tel", "tél", "call", "mobile", "cell", "office", "fax", "dial", "reach", "ring", "text"),
    *("whatsapp", "sms", "appel", "portable", "joindre", "answering", "répond"),
    *("contact", "number", "numero", "numéro"),
)


def phones(text: str) -> Iterator[Span]:
    """Yield phone numbers. The caller checks that the text has six digits close together."""
    found = [Span(*form.span(), PiiType.PHONE, FORMED) for form in _FORM.finditer(text)]
    yield from found
    text = blanked(text, found)
    found = [
        Span(*bare.span(), PiiType.PHONE, PROVEN) for bare in _BARE.finditer(text) if _can_exist(bare.group())
    ]
    yield from found
    lower = text.lower()
    if any(map(lower.__contains__, _CUES)):
        text = blanked(text, found)
        found = [Span(*match.span("value"), PiiType.PHONE, LIKELY) for match in _AFTER_WORD.finditer(text)]
        yield from found
        for match in _BEFORE_WORD.finditer(blanked(text, found)):
            yield Span(*match.span("value"), PiiType.PHONE, LIKELY)


def _can_exist(written: str) -> bool:
    """Report whether the number is valid in its country's plan, or without a country code in one of ours.

    National numbers of France and Britain begin with 0, those of North America never do.
    """
    if written.startswith("+"):
        return _is_valid(written, None)
    if written.startswith("0"):
        return any(_is_valid(written, region) for region in _WITH_ZERO)
    return _is_valid(written, "US")


def _is_valid(written: str, region: str | None) -> bool:
    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(written, region)))
    except phonenumbers.NumberParseException:
        return False
