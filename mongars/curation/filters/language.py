"""The language of a conversation, by a vote of its turns.

The detector (lingua) chooses among the configured languages and a few large European ones. With the configured
ones alone it would call German text English, and no conversation would ever be in another language.
"""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice

from lingua import IsoCode639_1, Language, LanguageDetector, LanguageDetectorBuilder

from mongars.errors import SettingsError

UNDETERMINED = "und"  # ISO 639-2
OTHER = "mis"  # ISO 639-2: none of the detector's languages, such as another script
CONTRAST = ("de", "en", "es", "fr", "it", "nl", "pt")
# Shorter turns, such as "OK, Paris", do not vote.
MIN_LETTERS = 20
# A character of Chinese, Japanese or Korean counts as this many letters.
LETTERS_PER_CJK_CHARACTER = 3
# More turns of a long conversation would cost time without changing the result.
MAX_VOTES = 12
# The fast detector uses trigrams, the accurate one n-grams of one to five letters. Above this confidence they
# agree on nearly all turns (docs/results/curation.md).
MIN_CONFIDENCE = 0.99


def detect_language(texts: Sequence[str], languages: Sequence[str]) -> str:
    """Return the ISO 639-1 code with the most votes; each turn has one vote per letter.

    Returns `UNDETERMINED` when no turn is long enough, `OTHER` for none of the detector's languages. Raises
    SettingsError for a configured code that the detector does not know.
    """
    codes = tuple(sorted({*languages, *CONTRAST}))
    votes: Counter[str] = Counter()
    long_enough = ((text, letters) for text in texts if (letters := _letters(text)) >= MIN_LETTERS)
    voters = list(islice(long_enough, MAX_VOTES))
    left = sum(letters for _, letters in voters)
    for text, letters in voters:
        votes[_language_of(text, codes)] += letters
        left -= letters
        if _is_decided(votes, left):
            break
    # A tie goes to the first code by name, so that the order of turns does not matter.
    return min(votes, key=lambda code: (-votes[code], code)) if votes else UNDETERMINED


def _language_of(text: str, codes: tuple[str, ...]) -> str:
    first, *_ = _detector(codes, fast=True).compute_language_confidence_values(text)
    found: Language | None = first.language
    if first.value < MIN_CONFIDENCE:
        found = _detector(codes).detect_language_of(text)
    return found.iso_code_639_1.name.lower() if found else OTHER


def _letters(text: str) -> int:
    letters = sum(map(str.isalpha, text))
    if text.isascii():
        return letters
    # Chinese, Japanese and Korean characters are letters without case ("Lo"), from U+3041 on.
    cjk = sum("\u3041" <= char <= "\ud7a3" and char.isalpha() for char in text)
    return letters + (LETTERS_PER_CJK_CHARACTER - 1) * cjk


def _is_decided(votes: Counter[str], left: int) -> bool:
    """Report whether the remaining votes cannot bring a second language level with the first."""
    first, second = (*(count for _, count in votes.most_common(2)), 0)[:2]
    return first - second > left


def check_languages(languages: Sequence[str]) -> None:
    """Raise SettingsError for a code that the detector does not know."""
    for code in languages:
        if not hasattr(IsoCode639_1, code.upper()) or not code.islower():
            raise SettingsError(f"Unknown language {code!r}.", remedy="Use ISO 639-1 codes, such as en or fr.")


@lru_cache(maxsize=8)
def _detector(codes: tuple[str, ...], *, fast: bool = False) -> LanguageDetector:
    """Build a detector; this takes about a second and 100 MB, once per process."""
    check_languages(codes)
    wanted = [getattr(IsoCode639_1, code.upper()) for code in codes]
    builder = LanguageDetectorBuilder.from_iso_codes_639_1(*wanted)
    return (builder.with_low_accuracy_mode() if fast else builder).build()
