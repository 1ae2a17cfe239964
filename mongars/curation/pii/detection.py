"""The order of the detectors, and a prefilter that lets most texts pass after a few searches.

Detectors run in a fixed order, and each sees the text with all earlier findings blanked out; within a detector,
the first finding wins. So spans never overlap. The order is from the strongest evidence to the weakest: a card
number is also a run of digits that the phone detector would match, and an e-mail address may contain a known name.
The passes repeat until nothing is found, because blanking creates new word boundaries.
"""

import itertools
import re
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from mongars.curation.pii import contextual, network, numbers, phones, secrets
from mongars.curation.pii.known_values import known_values
from mongars.curation.pii.pseudonyms import TAG
from mongars.curation.pii.spans import BLANK, Span, blanked

Detector = Callable[[str], Iterator[Span]]

# What a text must contain for detectors to match. Except for known values, all personal data has a digit, an "@",
# a link or the header of a key.
_DIGIT = re.compile(r"\d")
# Six digits with at most three other characters between two of them: the minimum of a phone number, card or IBAN.
_NUMBER = re.compile(r"\d(?:[^\d\n]{0,3}\d){5}")

_CUED_FIRST: tuple[Detector, ...] = (network.credentials, secrets.secrets, network.emails, network.spelled_emails)
# (cues searched as written, cues searched in lower case): without any of them the detector finds nothing.
_CUES: Mapping[Detector, tuple[Sequence[str], Sequence[str]]] = {
    network.credentials: (("://",), ()),
    secrets.secrets: (secrets.KEY_CUES, secrets.PASSWORD_CUES),
    network.emails: (("@",), ()),
    network.spelled_emails: ((), network.SPELLED_CUES),
    network.own_sites: (("://", "www."), ()),
    contextual.handles: (("@",), contextual.ACCOUNT_CUES),
}
# Most texts have no cue at all, which these two lists find out at once.
_ALL_WRITTEN, _ALL_LOWERED = (
    tuple(dict.fromkeys(itertools.chain(*cues))) for cues in zip(*_CUES.values(), strict=True)
)
_WITH_DIGITS: tuple[Detector, ...] = (network.macs, network.ips)
_WITH_NUMBERS: tuple[Detector, ...] = (
    numbers.documents,
    numbers.ibans,
    numbers.ssns,
    numbers.cards,
    numbers.national_ids,
    network.coordinates,
)
_BEFORE_PHONES: tuple[Detector, ...] = (contextual.birth_dates,)
_AFTER_PHONES: tuple[Detector, ...] = (contextual.addresses,)
_CUED_LAST: tuple[Detector, ...] = (network.own_sites, contextual.handles)


def find_pii(text: str, known: Sequence[str] = (), find_names: Detector | None = None) -> list[Span]:
    """Return the spans of personal data in `text`, in order, never overlapping, never empty.

    `known` are the user's names, e-mail addresses and phone numbers, found in any form. `find_names` finds other
    person names (`PersonTagger.find`); without it, only known ones are found. Tags made by `replace` are skipped.
    """
    spans: list[Span] = []
    hidden = TAG.sub(lambda match: BLANK * len(match.group()), text) if "<" in text else text
    values, cued = tuple(known), _cued(hidden)
    while found := list(_one_pass(hidden, values, find_names, cued)):
        hidden = blanked(hidden, found)
        spans += found
    return sorted(spans, key=lambda span: span.start)


def _one_pass(
    text: str, known: tuple[str, ...], find_names: Detector | None, cued: frozenset[Detector]
) -> Iterator[Span]:
    for detect in _detectors(text, cued):
        if found := drop_overlaps(detect(text)):
            text = blanked(text, found)
            yield from found
    if known and (found := list(known_values(text, known))):
        text = blanked(text, found)
        yield from found
    if find_names:
        yield from drop_overlaps(find_names(text))


def _detectors(text: str, cued: frozenset[Detector]) -> Iterator[Detector]:
    if cued:
        yield from filter(cued.__contains__, _CUED_FIRST)
    if _DIGIT.search(text):
        number = _NUMBER.search(text) is not None
        yield from _WITH_DIGITS
        if number:
            yield from _WITH_NUMBERS
        yield from _BEFORE_PHONES
        if number:
            yield phones.phones
        yield from _AFTER_PHONES
    if cued:
        yield from filter(cued.__contains__, _CUED_LAST)


def _cued(text: str) -> frozenset[Detector]:
    """Return the detectors whose cues are in the text; blanking adds no cues, so once per text is enough."""
    lower = text.lower()
    if not any(map(text.__contains__, _ALL_WRITTEN)) and not any(map(lower.__contains__, _ALL_LOWERED)):
        return frozenset()
    return frozenset(
        detect
        for detect, (written, lowered) in _CUES.items()
        if any(map(text.__contains__, written)) or any(map(lower.__contains__, lowered))
    )


def drop_overlaps(spans: Iterable[Span]) -> list[Span]:
    """Return, in order of position, the spans that overlap none before them in `spans`."""
    kept: list[Span] = []
    for span in spans:
        place = bisect(kept, span.start, key=lambda other: other.start)
        if (place == 0 or kept[place - 1].end <= span.start) and (
            place == len(kept) or span.end <= kept[place].start
        ):
            kept.insert(place, span)
    return kept
