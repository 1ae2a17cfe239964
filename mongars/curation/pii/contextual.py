"""Values that the words around them make personal, in English and French: birth dates, addresses, user names."""

import re
from collections.abc import Iterator

from mongars.curation.pii.spans import FORMED, PiiType, Span, match_with_cue

_MONTH = (
    r"(?:jan(?:uary|vier)?|feb(?:ruary)?|f[ée]v(?:rier)?|mar(?:ch|s)|apr(?:il)?|avr(?:il)?|may|mai|june?|juin"
    r"|jul(?:y)?|juil(?:let)?|aug(?:ust)?|ao[uû]t|sep(?:t(?:ember|embre)?)?|oct(?:ober|obre)?|nov(?:ember|embre)?"
    r"|d[ée]c(?:ember|embre)?)\.?"
)
_DATE = (
    r"(?:\d{1,4}[/.-]\d{1,2}[/.-]\d{2,4}"
    rf"|\d{{1,2}}(?:st|nd|rd|th|er)?(?:\sof)?\s{_MONTH}(?:,?\s\d{{4}})?"
    rf"|{_MONTH}\s\d{{1,2}}(?:st|nd|rd|th)?(?:,?\s\d{{4}})?)"
)
_BIRTH = re.compile(
    r"\b(?:date\sof\sbirth|birth\s?da(?:te|y)|born(?:\son)?|dob|d\.o\.b\.?|n[ée]e?\sle|date\sde\snaissance"
    rf"|anniversaire)(?!\w)[^\d\n\ue000]{{0,40}}?(?P<value>(?<!\w){_DATE}(?!\w))",
    re.IGNORECASE,
)
_BIRTH_CUES = ("birth", "born", "dob", "d.o.b", "né", "née", "naissance", "anniversaire")


def birth_dates(text: str) -> Iterator[Span]:
    """Yield dates that the text calls a date of birth."""
    return match_with_cue(text, _BIRTH_CUES, _BIRTH, PiiType.BIRTH_DATE)


# The address of a shop is not personal: the text must say that somebody lives there or gets mail there.
_HOME = (
    r"(?:(?:i|we)\s(?:live|am\sliving|are\sliving|reside|moved)\s(?:at|to)"
    r"|(?:my|our|home|mailing|postal|billing|shipping|delivery|return)\saddress(?:\sis|:|\s=)?"
    r"|(?:ship|send|deliver|mail|post)(?:ed)?\s(?:it|them|this|everything|the\s\w{2,20})?\s?to"
    r"|(?:j['\u2019]habite|nous\shabitons|je\svis|j['\u2019]ai\sd[ée]m[ée]nag[ée])\s(?:au|à|a)?"
    r"|(?:mon|notre|son)\sadresse(?:\spostale)?(?:\sest|\s?:)?(?:\sle)?)"
)
_WORD = r"[\w.'\u2019-]{1,32}"
_STREET = (
    r"(?:street|st|avenue|ave|av|road|rd|lane|ln|drive|dr|boulevard|blvd|bd|way|court|ct|place|pl|square|sq|terrace"
    r"|highway|hwy|parkway|pkwy|crescent|close|row|circle|trail)\b\.?"
)
_RUE = (
    r"(?:rue|avenue|av\.?|boulevard|bd\.?|place|chemin|all[ée]e|impasse|quai|cours|route|square|passage|faubourg)"
)
_CAPITAL = r"(?-i:[A-ZÀÂÇÉÈÊÎÔ])[\w'\u2019-]{1,32}"
# The rest of an address in the usual order, all optional: flat, town, region, postal code.
_REST = (
    r"(?:,?\s(?:apt|apartment|suite|unit|flat|appartement|appt|b[âa]t)\.?\s?\#?\w{1,6})?"
    rf"(?:,\s{_CAPITAL}(?:\s{_CAPITAL}){{0,2}})?(?:,?\s(?-i:[A-Z]{{2}})\b)?"
    r"(?:,?\s(?:\d{5}(?:-\d{4})?|(?-i:[A-Z]\d[A-Z]\s?\d[A-Z]\d|[A-Z]{1,2}\d[A-Z\d]?\s?\d[A-Z]{2}))\b"
    rf"(?:\s{_CAPITAL}){{0,2}})?"
)
_FRENCH = (
    rf"{_RUE}\s(?:(?:du|des|de|d['\u2019]|la|les|le|l['\u2019])\s?){{0,3}}[\w'\u2019-]{{2,32}}"
    rf"(?:\s{_CAPITAL}){{0,3}}"
)
_ADDRESS = re.compile(
    rf"\b{_HOME}\s{{0,3}}(?:is\s|the\s)?(?P<value>(?:\d{{1,5}}[a-z]?(?:\s(?:bis|ter))?,?\s"
    rf"(?:{_FRENCH}|(?:{_WORD}\s){{1,4}}?{_STREET})|p\.?\s?o\.?\sbox\s\d{{1,6}}){_REST})(?!\w)",
    re.IGNORECASE,
)
_HOME_CUES = ("address", "adresse", "live at", "living at", "reside", "moved to", "habit", "vis ", "ménag", " to ")


def addresses(text: str) -> Iterator[Span]:
    """Yield street addresses and PO boxes where the text says that somebody lives or gets mail."""
    return match_with_cue(text, _HOME_CUES, _ADDRESS, PiiType.ADDRESS)


_ACCOUNT = re.compile(
    r"\b(?:user\s?name|login|handle|screen\s?name|gamertag|nom\sd['\u2019]utilisateur|pseudo|identifiant"
    r"|(?:insta(?:gram)?|twitter|telegram|discord|github|snap(?:chat)?|tiktok|skype|steam)(?:\s(?:account|id|name))?)"
    r"(?:\s{0,2}[:=]\s{0,2}|\s(?:is|est)\s)[\"'`]?(?P<value>@?(?=[\w.-]{0,40}(?:\d|_|\.\w|(?-i:[a-z][A-Z])))[\w.-]{3,40}\b|@\w{2,40})",
    re.IGNORECASE,
)
ACCOUNT_CUES = (
    *("user", "login", "handle", "screen", "gamertag", "pseudo", "identifiant", "insta", "twitter", "telegram"),
    *("discord", "github", "snap", "tiktok", "skype", "steam", "utilisateur"),
)
# Not at the start of a line, where Python and Java have decorators, and not next to a word or dot.
_AT_NAME = re.compile(r"(?<=[^\n\w@./])@[A-Za-z]\w{2,29}(?![\w@(]|\.\w)")


def handles(text: str) -> Iterator[Span]:
    """Yield user names: after an "@", or named as such by the text unless they are plain words."""
    accounts = list(match_with_cue(text, ACCOUNT_CUES, _ACCOUNT, PiiType.HANDLE))
    yield from accounts
    taken = {account.start for account in accounts}
    if "@" in text:
        for match in _AT_NAME.finditer(text):
            if match.start() not in taken:
                yield Span(*match.span(), PiiType.HANDLE, FORMED)
