"""Which language a conversation is in, by a vote of its turns.

Owns the detector and the vote. Must not know what happens to a conversation in another language.
The detector (lingua) is told the configured languages and a few large European ones: told the configured ones
alone, it would call German text English, and no conversation would ever be in another language.
"""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice

from lingua import IsoCode639_1, Language, LanguageDetector, LanguageDetectorBuilder

from mongars.errors import SettingsError

UNDETERMINED = "und"  # ISO 639-2
OTHER = "mis"  # ISO 639-2: none of the languages that the detector was told, such as another script
CONTRAST = ("de", "en", "es", "fr", "it", "nl", "pt")
# Below this many letters, "OK, Paris" is a guess.
MIN_LETTERS = 20
# Of Chinese, Japanese and Korean: a sign says as much as a syllable.
LETTERS_OF_A_SIGN = 3
# A dozen turns decide; the rest of a long conversation would only cost time.
MAX_VOTES = 12
# So sure the quick detector must be, which looks at three letters at a time, the other at one to five. It is so of
# 85 to 97 % of English turns, and says of all but 1 in 800 of these what the other does
# (docs/results/2026-11-27-curation.md).
SURE = 0.99


def detect_language(texts: Sequence[str], languages: Sequence[str]) -> str:
    """Return the ISO 639-1 code that most letters of the turns voted for.

    `UNDETERMINED` when no turn is long enough to tell, `OTHER` when they are in none of the detector's languages.
    Raises SettingsError for a configured code that the detector does not know.
    """
    codes = tuple(sorted({*languages, *CONTRAST}))
    votes: Counter[str] = Counter()
    able = ((text, letters) for text in texts if (letters := _letters(text)) >= MIN_LETTERS)
    voters = list(islice(able, MAX_VOTES))
    left = sum(letters for _, letters in voters)
    for text, letters in voters:
        votes[_language_of(text, codes)] += letters
        left -= letters
        if _is_decided(votes, left):
            break
    # Equal votes: the first by name, so that the answer does not depend on the order.
    return min(votes, key=lambda code: (-votes[code], code)) if votes else UNDETERMINED


def _language_of(text: str, codes: tuple[str, ...]) -> str:
    first, *_ = _detector(codes, quick=True).compute_language_confidence_values(text)
    found: Language | None = first.language
    if first.value < SURE:
        found = _detector(codes).detect_language_of(text)
    return found.iso_code_639_1.name.lower() if found else OTHER


def _letters(text: str) -> int:
    letters = sum(map(str.isalpha, text))
    if text.isascii():
        return letters
    # Unicode calls signs of Chinese, Japanese and Korean letters without case ("Lo"), all from U+3041 on.
    signs = sum("\u3041" <= char <= "\ud7a3" and char.isalpha() for char in text)
    return letters + (LETTERS_OF_A_SIGN - 1) * signs


def _is_decided(votes: Counter[str], left: int) -> bool:
    """Say whether the votes that are left could not even make a second language equal to the first."""
    first, second = (*(count for _, count in votes.most_common(2)), 0)[:2]
    return first - second > left


def check_languages(languages: Sequence[str]) -> None:
    """Raise SettingsError for a code that the detector does not know."""
    for code in languages:
        if not hasattr(IsoCode639_1, code.upper()) or not code.islower():
            raise SettingsError(f"Unknown language {code!r}.", remedy="Use ISO 639-1 codes, such as en or fr.")


@lru_cache(maxsize=8)
def _detector(codes: tuple[str, ...], *, quick: bool = False) -> LanguageDetector:
    """Build a detector, about a second and 200 MB for both; once per process."""
    check_languages(codes)
    wanted = [getattr(IsoCode639_1, code.upper()) for code in codes]
    builder = LanguageDetectorBuilder.from_iso_codes_639_1(*wanted)
    return (builder.with_low_accuracy_mode() if quick else builder).build()
