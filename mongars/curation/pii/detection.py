"""The order of the detectors, and the rule of what happens where their findings overlap.

Owns both, and the prefilter that lets most texts pass at the price of a few searches. Must not know any form.

The rule: the detectors run in the order written here, and each sees the text with everything found before it
blanked out; within a detector, the first finding wins. So spans never overlap. The order goes from the form
that proves most to the one that proves least: a card number is also a run of digits that a phone matcher
would take, an e-mail address may contain a known name. The passes repeat until nothing is found, because a
blank is a word boundary that was not there before.
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

# What a text must hold for a detector to have a chance. Nothing personal here is without a digit, an "@", a
# link or a key's header, but for what `known_values` finds.
_DIGIT = re.compile(r"\d")
# Six digits with at most three signs between two of them: the fewest of a phone number, a card, an IBAN.
_NUMBER = re.compile(r"\d(?:[^\d\n]{0,3}\d){5}")

_ANYWHERE: tuple[Detector, ...] = (network.credentials, secrets.secrets, network.emails, network.spelled_emails)
# One of these as it is written, or one of those in lower case: without, such a detector finds nothing.
_CUES: Mapping[Detector, tuple[Sequence[str], Sequence[str]]] = {
    network.credentials: (("://",), ()),
    secrets.secrets: (secrets.KEY_CUES, secrets.TOLD_CUES),
    network.emails: (("@",), ()),
    network.spelled_emails: ((), network.SPELLED_CUES),
    network.own_sites: (("://", "www."), ()),
    contextual.handles: (("@",), contextual.ACCOUNT_CUES),
}
# Most texts have none of them, which is told without going through the detectors.
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
_TOLD: tuple[Detector, ...] = (contextual.birth_dates,)
_LAST: tuple[Detector, ...] = (contextual.addresses,)
_WORDS: tuple[Detector, ...] = (network.own_sites, contextual.handles)


def find_pii(text: str, known: Sequence[str] = (), find_names: Detector | None = None) -> list[Span]:
    """Return the spans of personal data in `text`, in order, never overlapping, never empty.

    `known` are values known of the user (name, e-mail, phone), found whatever their form. `find_names` finds
    person names (`PersonTagger.find`); without it, only known ones are found. Tags that `replace` left are
    not found again.
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
        if found := apart(detect(text)):
            text = blanked(text, found)
            yield from found
    if known and (found := list(known_values(text, known))):
        text = blanked(text, found)
        yield from found
    if find_names:
        yield from apart(find_names(text))


def _detectors(text: str, cued: frozenset[Detector]) -> Iterator[Detector]:
    if cued:
        yield from filter(cued.__contains__, _ANYWHERE)
    if _DIGIT.search(text):
        number = _NUMBER.search(text) is not None
        yield from _WITH_DIGITS
        if number:
            yield from _WITH_NUMBERS
        yield from _TOLD
        if number:
            yield phones.phones
        yield from _LAST
    if cued:
        yield from filter(cued.__contains__, _WORDS)


def _cued(text: str) -> frozenset[Detector]:
    """Return the detectors of which the text has a cue; a text that is blanked out further has no others."""
    lower = text.lower()
    if not any(map(text.__contains__, _ALL_WRITTEN)) and not any(map(lower.__contains__, _ALL_LOWERED)):
        return frozenset()
    return frozenset(
        detect
        for detect, (written, lowered) in _CUES.items()
        if any(map(text.__contains__, written)) or any(map(lower.__contains__, lowered))
    )


def apart(spans: Iterable[Span]) -> list[Span]:
    """Return, by place, the spans that do not overlap one that was found before them."""
    kept: list[Span] = []
    for span in spans:
        place = bisect(kept, span.start, key=lambda other: other.start)
        if (place == 0 or kept[place - 1].end <= span.start) and (
            place == len(kept) or span.end <= kept[place].start
        ):
            kept.insert(place, span)
    return kept
