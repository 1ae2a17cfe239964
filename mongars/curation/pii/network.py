"""Network addresses of people and machines (e-mail, URLs with credentials, IP, MAC), and coordinates on Earth."""

import ipaddress
import re
from collections.abc import Iterator

from mongars.curation.pii.spans import FORMED, LIKELY, PROVEN, PiiType, Span

# Scheme, user and password before the host (RFC 3986 userinfo), or a token in the query. All repetitions are
# bounded, so that a long text without a match costs linear time.
_CREDENTIALS = re.compile(
    r"\b[a-z][a-z0-9+.-]{1,15}://[^\s/@:\ue000]{1,256}:[^\s/@\ue000]{1,256}@[^\s\ue000]{1,2048}"
    r"|\bhttps?://[^\s?\ue000]{1,1024}\?(?:[^\s&\ue000]{1,512}&){0,16}"
    r"(?:access_token|api_?key|auth|key|passw(?:or)?d|secret|sig|signature|token)=[^\s\ue000]{1,2048}",
    re.IGNORECASE,
)


def credentials(text: str) -> Iterator[Span]:
    """Yield URLs that carry a password or a token."""
    if "://" in text:
        for match in _CREDENTIALS.finditer(text):
            yield Span(*match.span(), PiiType.URL_CREDENTIALS, PROVEN)


# Anything with a dot after the "@": wider than RFC 5321, because a published address cannot be taken back. The
# look-behind lets a match start only at the start of a run, which keeps the search linear.
_EMAIL = re.compile(r"(?<![\w.+%'-])[\w.+%'-]+@[\w-]+(?:\.[\w-]+)+")
# Spelled out to avoid harvesting. Brackets are required: "look at example dot com" is not an address.
_SPELLED_EMAIL = re.compile(
    r"(?<![\w.+%-])[\w.+%-]{1,64}\s{0,2}[(\[{]\s?(?:at|@|arobase)\s?[)\]}]\s{0,2}"
    r"[\w-]{1,63}(?:\s{0,2}(?:\.|[(\[{]\s?(?:dot|point|\.)\s?[)\]}])\s{0,2}[\w-]{2,63}){1,4}",
    re.IGNORECASE,
)
SPELLED_CUES = ("(at", "[at", "{at", "( at", "[ at", "{ at", "arobase", "(@", "[@", "{@")


def emails(text: str) -> Iterator[Span]:
    """Yield e-mail addresses."""
    if "@" in text:
        for match in _EMAIL.finditer(text):
            yield Span(*match.span(), PiiType.EMAIL, PROVEN)


def spelled_emails(text: str) -> Iterator[Span]:
    """Yield e-mail addresses written with (at) and (dot)."""
    lower = text.lower()
    if any(map(lower.__contains__, SPELLED_CUES)):
        for match in _SPELLED_EMAIL.finditer(text):
            yield Span(*match.span(), PiiType.EMAIL, FORMED)


_HEX = "[0-9A-Fa-f]"
_MAC = re.compile(
    rf"(?<![\w:-]){_HEX}{{2}}([:-]){_HEX}{{2}}(?:\1{_HEX}{{2}}){{4}}(?![\w:-])"
    rf"|(?<![\w.]){_HEX}{{4}}\.{_HEX}{{4}}\.{_HEX}{{4}}(?![\w.])"
)


def macs(text: str) -> Iterator[Span]:
    """Yield hardware addresses (IEEE 802) in their three usual forms."""
    if text.count(".") < 2 and text.count(":") < 5 and text.count("-") < 5:  # noqa: PLR2004 (of the forms)
        return
    for match in _MAC.finditer(text):
        if any(map(str.isdigit, match.group())):  # dead.beef.cafe is a joke
            yield Span(*match.span(), PiiType.MAC, PROVEN)


_IPV4 = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)")
_IPV6 = re.compile(r"(?<![\w:])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")
# `a::b` is a valid IPv6 address but more often a name in a program.
_MIN_IPV6_GROUPS = 3


def ips(text: str) -> Iterator[Span]:
    """Yield IPv4 and IPv6 addresses."""
    if text.count(".") >= 3:  # noqa: PLR2004 (the dots of an IPv4 address)
        for match in _IPV4.finditer(text):
            # People write leading zeros, which ipaddress refuses.
            if _is_ip(".".join(str(int(part)) for part in match.group().split("."))):
                yield Span(*match.span(), PiiType.IP, PROVEN)
    if text.count(":") >= 2:  # noqa: PLR2004 (the fewest colons of an IPv6 address)
        for match in _IPV6.finditer(text):
            written = match.group()
            groups = [group for group in written.split(":") if group]
            if len(groups) >= _MIN_IPV6_GROUPS and any(map(str.isdigit, written)) and _is_ip(written):
                yield Span(*match.span(), PiiType.IP, PROVEN)


def _is_ip(written: str) -> bool:
    try:
        ipaddress.ip_address(written)
    except ValueError:
        return False
    return True


# Four decimals are eleven metres, a house; fewer are a district.
_DECIMAL = re.compile(
    r"(?<![\w.,+-])(?P<latitude>[+-]?\d{1,2}\.\d{4,10})\s?°?\s?[NS]?\s{0,2}[,;/ ]\s{0,2}"
    r"(?P<longitude>[+-]?\d{1,3}\.\d{4,10})(?:\s?°)?(?:\s?[EWO]\b)?(?![\w.]?\d)"
)
_SEXAGESIMAL = re.compile(
    r"(?<!\d)\d{1,2}\s?°\s?\d{1,2}\s?['\u2019\u2032]\s?(?:\d{1,2}(?:\.\d{1,6})?\s?(?:\"|''|\u2033)\s?)?[NS]"
    r"[\s,;]{0,3}\d{1,3}\s?°\s?\d{1,2}\s?['\u2019\u2032]\s?(?:\d{1,2}(?:\.\d{1,6})?\s?(?:\"|''|\u2033)\s?)?[EWO]\b"
)
_POLE, _DATE_LINE = 90.0, 180.0


def coordinates(text: str) -> Iterator[Span]:
    """Yield pairs of latitude and longitude (WGS 84), decimal or in degrees, minutes and seconds."""
    if text.count(".") >= 2:  # noqa: PLR2004 (one in each number)
        for match in _DECIMAL.finditer(text):
            if abs(float(match["latitude"])) <= _POLE and abs(float(match["longitude"])) <= _DATE_LINE:
                yield Span(*match.span(), PiiType.COORDINATES, FORMED)
    if "°" in text:
        for match in _SEXAGESIMAL.finditer(text):
            yield Span(*match.span(), PiiType.COORDINATES, PROVEN)


# Only a site that the text calls somebody's own is personal; other links are not.
_OWN_SITE = re.compile(
    r"\b(?:my|our|mon|ma|notre)\s(?:own\s|personal\s)?(?:web\s?site|site(?:\sweb)?|blog|page|portfolio|profile?)\b"
    r"[^\n\ue000]{0,12}?(?P<own>(?:https?://|www\.)[^\s\ue000]{3,2048})"
    r"|\b(?:just|i)\sposted\s[^\n\ue000]{0,24}?(?P<posted>https?://[^\s\ue000]{3,2048})",
    re.IGNORECASE,
)


def own_sites(text: str) -> Iterator[Span]:
    """Yield links to sites that the author calls their own."""
    if "://" in text or "www." in text:
        for match in _OWN_SITE.finditer(text):
            start, end = match.span("own" if match["own"] else "posted")
            yield Span(start, start + len(text[start:end].rstrip(".,;!?)\"'")), PiiType.SITE, LIKELY)
