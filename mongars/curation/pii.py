"""Personal data and secrets in a text: where they are, and the text without them.

Owns the detectors, their order and the form of a tag. Must not know conversations, files or Ray.
Does not find person names, postal addresses or dates of birth, unless they are handed in as known values.

Order and overlap, the one rule: the detectors run in the order of `_DETECTORS`, and each sees the text with
everything found before it blanked out. So the earlier one wins and spans never overlap. The order goes from the
form that proves most to the one that proves least: a card number is also a run of digits that a phone matcher
would take, an e-mail address may contain a known name. The passes repeat until nothing is found, because a blank
is a word boundary that was not there before.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from phonenumbers import Leniency, PhoneNumberMatcher
from stdnum import iban, luhn
from stdnum.us import ssn

from mongars.curation.pseudonyms import TAG, Pseudonyms


class PiiType(StrEnum):
    """What a span is; also the first part of its tag."""

    URL_CREDENTIALS = "URL"
    SECRET = "SECRET"  # noqa: S105 (the name of a type)
    EMAIL = "EMAIL"
    IBAN = "IBAN"
    CARD = "CARD"
    SSN = "SSN"
    IP = "IP"
    PHONE = "PHONE"
    PERSON = "PERSON"


@dataclass(frozen=True, slots=True)
class Span:
    """`text[start:end]` is of `type`; `score` (0 to 1) orders how sure the detectors are, it is no probability."""

    start: int
    end: int
    type: PiiType
    score: float


# Checked by a checksum or an unmistakable form; by a form; by a form that other things share.
PROVEN, FORMED, LIKELY = 0.99, 0.9, 0.6
# Private use character: no detector's pattern contains it, so that no match reaches across a blank.
_BLANK = "\ue000"
# Numbers without a country code are read as North American, French and British; others need their "+".
PHONE_REGIONS = ("US", "FR", "GB")


def find_pii(text: str, known: Sequence[str] = ()) -> list[Span]:
    """Return the spans of personal data in `text`, in order, never overlapping, never empty.

    `known` are values known of the user (name, e-mail, phone), found whatever their case and spacing. Tags that
    `redact` left are not found again.
    """
    spans: list[Span] = []
    blanked = TAG.sub(lambda match: _BLANK * len(match.group()), text)
    while found := list(_one_pass(blanked, tuple(known))):
        blanked = _blank(blanked, found)
        spans += found
    return sorted(spans, key=lambda span: span.start)


def redact(text: str, spans: Iterable[Span], pseudonyms: Pseudonyms) -> str:
    """Return `text` with each span replaced by its tag, such as `<EMAIL_3f2a>`: the same value, the same tag."""
    pieces: list[str] = []
    end = 0
    for span in sorted(spans, key=lambda span: span.start):
        pieces += (text[end : span.start], pseudonyms.tag(span.type, text[span.start : span.end]))
        end = span.end
    return "".join([*pieces, text[end:]])


def _one_pass(text: str, known: tuple[str, ...]) -> Iterator[Span]:
    for detect in _DETECTORS:
        found = list(detect(text))
        text = _blank(text, found)
        yield from found
    for pattern, kind in _known_patterns(known):
        found = [Span(*match.span(), kind, PROVEN) for match in pattern.finditer(text)]
        text = _blank(text, found)
        yield from found


def _blank(text: str, spans: Iterable[Span]) -> str:
    """Return the text, as long as before, with the spans blanked out."""
    pieces: list[str] = []
    end = 0
    for span in sorted(spans, key=lambda span: span.start):
        pieces += (text[end : span.start], _BLANK * (span.end - span.start))
        end = span.end
    return "".join([*pieces, text[end:]]) if pieces else text


# Scheme, user and password before the host (RFC 3986 userinfo), or a token in the query. All runs are bounded, so
# that a long text without a match costs linear time.
_CREDENTIALS = re.compile(
    r"\b[a-z][a-z0-9+.-]{1,15}://[^\s/@:\ue000]{1,256}:[^\s/@\ue000]{1,256}@[^\s\ue000]{1,2048}"
    r"|\bhttps?://[^\s?\ue000]{1,1024}\?(?:[^\s&\ue000]{1,512}&){0,16}"
    r"(?:access_token|api_?key|auth|key|passw(?:or)?d|secret|sig|signature|token)=[^\s\ue000]{1,2048}",
    re.IGNORECASE,
)


def _credentials(text: str) -> Iterator[Span]:
    if "://" in text:
        for match in _CREDENTIALS.finditer(text):
            yield Span(*match.span(), PiiType.URL_CREDENTIALS, PROVEN)


# Published prefixes of keys: OpenAI, Anthropic and Stripe, GitHub, GitLab, AWS, Slack, Google, Hugging Face, JSON
# web tokens (RFC 7519), PEM private keys (RFC 7468).
_KEY = re.compile(
    r"(?<!\w)(?:sk[-_][A-Za-z0-9_-]{16,256}|gh[oprsu]_[A-Za-z0-9]{30,255}|github_pat_\w{22,255}"
    r"|glpat-[\w-]{20,255}|(?:AKIA|ASIA)[0-9A-Z]{16}|xox[abeoprs]-[A-Za-z0-9-]{10,255}|AIza[\w-]{35}"
    r"|hf_[A-Za-z0-9]{30,255}|eyJ[\w-]{10,4096}\.[\w-]{10,8192}\.[\w-]{5,1024})"
    r"|-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----[A-Za-z0-9+/=\s:,-]{1,8192}"
)
# A value that a person calls a secret. It must hold a digit: "my password is wrong" gives nothing away.
_TOLD = re.compile(
    r"\b(?:api[ _-]?key|access[ _-]?token|secret|password|passwd|passcode|mot de passe)\b"
    r"(?:\s{0,3}[:=]|\s{1,3}(?:is|est))\s{0,3}[\"'`]?(?P<value>(?=[^\s\ue000]{0,128}\d)[^\s\"'`\ue000]{6,128})",
    re.IGNORECASE,
)


def _secrets(text: str) -> Iterator[Span]:
    keys = [Span(*match.span(), PiiType.SECRET, PROVEN) for match in _KEY.finditer(text)]
    yield from keys
    for match in _TOLD.finditer(_blank(text, keys)):
        yield Span(*match.span("value"), PiiType.SECRET, LIKELY)


# Anything with a dot behind the "@": wider than RFC 5321 on purpose, since a missed address cannot be taken back.
# The look-behind lets a match start only where a run starts, which keeps the search linear.
_EMAIL = re.compile(r"(?<![\w.+%'-])[\w.+%'-]+@[\w-]+(?:\.[\w-]+)+")


def _emails(text: str) -> Iterator[Span]:
    if "@" in text:
        for match in _EMAIL.finditer(text):
            yield Span(*match.span(), PiiType.EMAIL, PROVEN)


_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}")


def _ibans(text: str) -> Iterator[Span]:
    """Words may follow a written IBAN, so the longest beginning that checks (ISO 13616) is taken."""
    for match in _IBAN.finditer(text):
        start, end = match.span()
        for stop in range(end, start + 14, -1):
            if text[stop - 1].isalnum() and iban.is_valid(text[start:stop]):
                yield Span(start, stop, PiiType.IBAN, PROVEN)
                break


_DIGIT_RUN = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,}")
_GROUP = re.compile(r"\d+")
# Lengths of card numbers (ISO/IEC 7812), the commonest first.
_CARD_LENGTHS = (16, 15, 14, 13, 19, 18, 17)
_CARD_GROUPS = 6


def _cards(text: str) -> Iterator[Span]:
    """A card is a whole number of digit groups: two cards side by side are one run of digits and two spans."""
    for run in _DIGIT_RUN.finditer(text):
        groups = [(run.start() + m.start(), run.start() + m.end()) for m in _GROUP.finditer(run.group())]
        done = 0
        for place, (start, _) in enumerate(groups):
            ends = [end for _, end in groups[place : place + _CARD_GROUPS]]
            for stop in _card_ends(text, start, ends) if start >= done else ():
                done = stop
                yield Span(start, stop, PiiType.CARD, PROVEN)


def _card_ends(text: str, start: int, ends: Sequence[int]) -> Iterator[int]:
    """Yield where a card that starts at `start` ends, if one does. Cards begin with 2 to 6 (ISO/IEC 7812)."""
    if text[start] not in "23456":
        return
    by_length: dict[int, int] = {}
    for end in ends:
        by_length[sum(char.isdigit() for char in text[start:end])] = end
    for length in _CARD_LENGTHS:
        if length in by_length and luhn.is_valid(_digits(text[start : by_length[length]])):
            yield by_length[length]
            return


_SSN = re.compile(r"(?<![\d-])\d{3}([- ])\d{2}\1\d{4}(?![\d-])")


def _ssns(text: str) -> Iterator[Span]:
    for match in _SSN.finditer(text):
        if ssn.is_valid(match.group().replace(" ", "-")):
            yield Span(*match.span(), PiiType.SSN, FORMED)


_IP = re.compile(
    r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)|(?<![\w:])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])"
)
# `a::b` is a valid IPv6 address and more often a name in a program: ask for groups.
_MIN_IPV6_GROUPS = 3


def _ips(text: str) -> Iterator[Span]:
    for match in _IP.finditer(text):
        written = match.group()
        groups = [group for group in written.split(":") if group]
        if ":" in written and (len(groups) < _MIN_IPV6_GROUPS or not any(map(str.isdigit, written))):
            continue
        try:
            # Leading zeros, which ipaddress refuses, are common in written IPv4 addresses.
            ipaddress.ip_address(
                written if ":" in written else ".".join(str(int(part)) for part in written.split("."))
            )
        except ValueError:
            continue
        yield Span(*match.span(), PiiType.IP, PROVEN)


# Six digits with at most three signs between two of them: without that, no phone number is in the text.
_PHONE_PREFILTER = re.compile(r"\d(?:[^\d\n]{0,3}\d){5}")
# Forms of numbers that no plan assigns, such as 555-01xx (reserved for fiction): still given as one's own.
_PHONE_FORM = re.compile(
    r"(?<!\d)(?<!\d[.-])(?<!\+)(?:(?:\+|00)\d{1,3}[ .-]?(?:\(0?\d{1,4}\)|\d{1,4})(?:[ .-]?\d{2,5}){2,5}"
    r"|(?:\+?1[ .-]?)?(?:\(\d{3}\)[ ]?|\d{3}[ .-])\d{3}[ .-]\d{4}"
    r"|\(?0\d{1,4}\)?(?:[ .-]\d{2,4}){2,5})(?:[ ]?(?:x|ext\.?)[ ]?\d{1,6})?(?!-?\d)",
    re.IGNORECASE,
)
# Local numbers have no form of their own; a word shortly before or after tells them from quantities.
_DIALLED = r"(?:phone|tel|call|mobile|cell|fax|dial|reach|text|whatsapp|sms|appel|portable|joindre)\w*"
_LOCAL = r"(?<![\d.,+-])\(?\d(?:[ ().-]{0,2}\d){5,14}(?!-?\d)"
_PHONE_IN_CONTEXT = re.compile(
    rf"\b{_DIALLED}\b[^\d\n\ue000]{{0,40}}?(?P<after>{_LOCAL})|(?P<before>{_LOCAL})[ -]{{0,2}}\(?{_DIALLED}\b",
    re.IGNORECASE,
)


def _phones(text: str) -> Iterator[Span]:
    if not _PHONE_PREFILTER.search(text):
        return
    for region in PHONE_REGIONS:
        matches = PhoneNumberMatcher(text, region, leniency=Leniency.VALID)
        found = [Span(match.start, match.end, PiiType.PHONE, PROVEN) for match in matches]
        # A match of the library may reach over any sign; what is found already stays as it is.
        found = [span for span in found if _BLANK not in text[span.start : span.end]]
        text = _blank(text, found)
        yield from found
    formed = [Span(*form.span(), PiiType.PHONE, FORMED) for form in _PHONE_FORM.finditer(text)]
    yield from formed
    for told in _PHONE_IN_CONTEXT.finditer(_blank(text, formed)):
        yield Span(*told.span(told.lastgroup or 0), PiiType.PHONE, LIKELY)


_DETECTORS: tuple[Callable[[str], Iterator[Span]], ...] = (
    _credentials,
    _secrets,
    _emails,
    _ibans,
    _cards,
    _ssns,
    _ips,
    _phones,
)

# A known value that is a number by itself: enough digits that it cannot be a quantity.
_MIN_KNOWN_DIGITS = 7
_MIN_NAME_PART = 3


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdigit())


@lru_cache(maxsize=4096)
def _known_patterns(known: tuple[str, ...]) -> tuple[tuple[re.Pattern[str], PiiType], ...]:
    """Return a pattern for each known value, the longest first, so that a full name is one span."""
    patterns: list[tuple[re.Pattern[str], PiiType]] = []
    for value in sorted({value.strip() for value in known}, key=lambda value: (-len(value), value)):
        if not value:
            continue
        if len(digits := _digits(value)) >= _MIN_KNOWN_DIGITS and not any(map(str.isalpha, value)):
            spaced = r"[ ().-]{0,2}".join(digits)
            patterns.append((re.compile(rf"(?<!\d){spaced}(?!\d)"), PiiType.PHONE))
            continue
        kind = PiiType.EMAIL if "@" in value else PiiType.PERSON
        spaced = r"\s+".join(re.escape(part) for part in value.split())
        patterns.append((re.compile(rf"(?<!\w){spaced}(?!\w)", re.IGNORECASE), kind))
    # A part of a name counts as written only: "Will Long" must not take every "will" and every "long".
    names = {part for value in known if "@" not in value for part in value.split() if len(part) >= _MIN_NAME_PART}
    patterns += [
        (re.compile(rf"(?<!\w)(?:{part}|{part.upper()})(?!\w)"), PiiType.PERSON)
        for part in sorted(names)
        if part.isalpha() and part[0].isupper()
    ]
    return tuple(patterns)
