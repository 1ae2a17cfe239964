"""Numbers with a checksum or a distinct form: IBANs, cards, social security and other national numbers.

The checksums are those of python-stdnum.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from stdnum import iban, luhn
from stdnum.be import nn
from stdnum.br import cpf
from stdnum.ca import sin
from stdnum.ch import ssn as ahv
from stdnum.es import dni, nie
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.se import personnummer
from stdnum.us import ssn

from mongars.curation.pii.spans import FORMED, PROVEN, PiiType, Span, match_with_cue

_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}")


def ibans(text: str) -> Iterator[Span]:
    """Yield IBANs. Words may follow, so the longest prefix with a valid checksum (ISO 13616) is the number."""
    for match in _IBAN.finditer(text):
        start, end = match.span()
        for stop in range(end, start + 14, -1):
            if text[stop - 1].isalnum() and iban.is_valid(text[start:stop]):
                yield Span(start, stop, PiiType.IBAN, PROVEN)
                break


_DIGIT_RUN = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,}")
_GROUP = re.compile(r"\d+")
# Lengths of card numbers (ISO/IEC 7812), most common first.
_CARD_LENGTHS = (16, 15, 14, 13, 19, 18, 17)
_CARD_GROUPS = 6


def cards(text: str) -> Iterator[Span]:
    """Yield card numbers. A card is made of whole groups of digits, so that two adjacent cards are two spans."""
    for run in _DIGIT_RUN.finditer(text):
        groups = [(run.start() + m.start(), run.start() + m.end()) for m in _GROUP.finditer(run.group())]
        done = 0
        for place, (start, _) in enumerate(groups):
            ends = [end for _, end in groups[place : place + _CARD_GROUPS]]
            for stop in _card_ends(text, start, ends) if start >= done else ():
                done = stop
                yield Span(start, stop, PiiType.CARD, PROVEN)


def _card_ends(text: str, start: int, ends: Sequence[int]) -> Iterator[int]:
    """Yield the end of a card that starts at `start`, if any. Cards begin with 2 to 6 (ISO/IEC 7812)."""
    if text[start] not in "23456":
        return
    by_length: dict[int, int] = {}
    for end in ends:
        by_length[sum(char.isdigit() for char in text[start:end])] = end
    for length in _CARD_LENGTHS:
        if length in by_length and luhn.is_valid(digits(text[start : by_length[length]])):
            yield by_length[length]
            return


_SSN = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
# If the text names the number, any nine digits count, even those that are never issued.
_NAMED_SSN = re.compile(
    r"\b(?:ssn|social security)\b[^\d\n\ue000]{0,24}(?P<value>\d{3}([ -]?)\d{2}\2\d{4})(?![\d-])", re.IGNORECASE
)


def ssns(text: str) -> Iterator[Span]:
    """Yield social security numbers of the United States."""
    taken = -1
    if "ssn" in (lower := text.lower()) or "social security" in lower:
        for match in _NAMED_SSN.finditer(text):
            taken = match.start("value")
            yield Span(*match.span("value"), PiiType.SSN, PROVEN)
    for match in _SSN.finditer(text):
        if match.start() != taken and ssn.is_valid(match.group()):
            yield Span(*match.span(), PiiType.SSN, FORMED)


# Distinct forms, each with the check of its country. The group's name is the key in _CHECKS.
_NATIONAL = re.compile(
    r"(?<![\w-])(?:"
    r"(?P<nir>[12][ .]?\d\d[ .]?(?:0[1-9]|1[0-2]|[2-9]\d)[ .]?\d[\dAB][ .]?\d{3}[ .]?\d{3}[ .]?\d\d)"
    r"|(?P<sin>\d{3}[ -]\d{3}[ -]\d{3})"
    r"|(?P<nino>[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D])"
    r"|(?P<nn>\d\d\.\d\d\.\d\d-\d{3}\.\d\d)"
    r"|(?P<ahv>756\.\d{4}\.\d{4}\.\d\d)"
    r"|(?P<cpf>\d{3}\.\d{3}\.\d{3}-\d\d)"
    r"|(?P<codicefiscale>[A-Za-z]{6}\d\d[A-Za-z]\d\d[A-Za-z]\d{3}[A-Za-z])"
    r"|(?P<dni>\d{8}-?[A-Z])"
    r"|(?P<nie>[XYZ]-?\d{7}-?[A-Z])"
    r"|(?P<aadhaar>\d{4} \d{4} \d{4})"
    r"|(?P<nordic>(?:\d\d)?\d{6}[+A-FU-Y-]\d{3}[0-9A-Y])"
    r")(?![\w-])"
)
# A National Insurance number has no check digit, but some prefixes are never issued (HMRC manual NIM39110).
_NINO_NEVER = ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")
_CHECKS: dict[str, Callable[[str], bool]] = {
    "nir": nir.is_valid,
    "sin": sin.is_valid,
    "nino": lambda written: not written.startswith(_NINO_NEVER),
    "nn": nn.is_valid,
    "ahv": ahv.is_valid,
    "cpf": cpf.is_valid,
    "codicefiscale": codicefiscale.is_valid,
    "dni": dni.is_valid,
    "nie": nie.is_valid,
    "aadhaar": aadhaar.is_valid,
    "nordic": lambda written: hetu.is_valid(written) or personnummer.is_valid(written),
}
# Their checks are weak: about one random number in ten passes.
_WEAK = ("sin", "aadhaar", "nordic", "nino")
_NAMED_NATIONAL = re.compile(
    r"\b(?:social insurance|sin|nas|assurance sociale|s[ée]curit[ée] sociale|nir|national insurance|nino|tax id)\b"
    r"(?:[ ](?:number|no\.?|n°))?[ ]{0,2}(?:is|est|:|=|#)?[ ]{0,2}(?P<value>\d(?:[ -]?\d){7,14})(?![\d-])",
    re.IGNORECASE,
)
_NATIONAL_CUES = ("sin", "nas", "social", "sociale", "nir", "nino", "national", "tax id")


def national_ids(text: str) -> Iterator[Span]:
    """Yield national identity numbers: with a valid check, or named as such by the text."""
    named = list(match_with_cue(text, _NATIONAL_CUES, _NAMED_NATIONAL, PiiType.NATIONAL_ID))
    yield from named
    taken = {each.start for each in named}
    for match in _NATIONAL.finditer(text):
        name = match.lastgroup or ""
        if match.start() not in taken and _CHECKS[name](match.group()):
            yield Span(*match.span(), PiiType.NATIONAL_ID, FORMED if name in _WEAK else PROVEN)


_NAMED_DOCUMENT = re.compile(
    r"\b(?:driver(?:'?s?|s')[ ]licen[cs]e|driving[ ]licen[cs]e|permis(?:[ ]de[ ]conduire)?|passport|passeport"
    r"|identity[ ]card|id[ ]card|carte[ ]d['\u2019]identit[ée])\b"
    r"(?:[ ](?:number|no\.?|num[ée]ro|n°|\#))?[ ]{0,2}(?:is|est|:|=|\#)?[ ]{0,2}"
    r"(?P<value>(?=[A-Z]{0,3}\d{2})[A-Z0-9]{6,18})\b",
    re.IGNORECASE,
)
_DOCUMENT_CUES = ("licen", "permis", "pass", "card", "carte d")


def documents(text: str) -> Iterator[Span]:
    """Yield numbers that the text calls those of a driving licence, passport or identity card."""
    return match_with_cue(text, _DOCUMENT_CUES, _NAMED_DOCUMENT, PiiType.DOCUMENT)


def digits(text: str) -> str:
    """Return the digits of a text."""
    return "".join(char for char in text if char.isdigit())
