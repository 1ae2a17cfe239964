"""Rules for profiles: their values must be distinct enough to be searched for in texts.

An error message never contains a value.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields

from mongars.errors import InputError
from mongars.records import Profile

KINDS = tuple(each.name for each in fields(Profile))
MAX_VALUES = 32  # of each kind; all of them are searched for in every text of the user
MAX_CHARACTERS = 255
# Shorter names occur in every text, and fewer digits could be a quantity (curation/pii/known_values.py).
MIN_NAME_LETTERS, MIN_PHONE_DIGITS = 2, 7


def checked(profile: Profile) -> Profile:
    """Return the profile with stripped, distinct values. Raises InputError."""
    return Profile(
        _each("names", profile.names, lambda name: sum(map(str.isalpha, name)) >= MIN_NAME_LETTERS),
        _each("emails", profile.emails, lambda address: all(address.partition("@"))),
        _each("phones", profile.phones, _is_phone),
    )


def _is_phone(value: str) -> bool:
    return sum(map(str.isdigit, value)) >= MIN_PHONE_DIGITS and not any(map(str.isalpha, value))


def _each(kind: str, values: Sequence[str], fits: Callable[[str], bool]) -> tuple[str, ...]:
    kept = tuple(dict.fromkeys(value.strip() for value in values))
    if len(kept) > MAX_VALUES:
        raise InputError(f"A profile has {len(kept)} {kind}.", remedy=f"Give at most {MAX_VALUES}.", param=kind)
    if not all(len(value) <= MAX_CHARACTERS and fits(value) for value in kept):
        raise InputError(
            f"The profile has an impossible value among its {kind}.",
            remedy=f"A name has {MIN_NAME_LETTERS} letters, an address an @, a phone {MIN_PHONE_DIGITS} digits "
            f"and no letter; all at most {MAX_CHARACTERS} characters.",
            param=kind,
        )
    return kept
