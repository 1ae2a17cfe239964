"""What a profile may hold: values that can be found in a text, and surely are the user's.

Owns the rules. Must not know where profiles come from or who looks for them. A refusal never repeats a value.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields

from mongars.errors import InputError
from mongars.records import Profile

KINDS = tuple(each.name for each in fields(Profile))
MAX_VALUES = 32  # of each kind; all of them are looked for in every text of the user
MAX_CHARACTERS = 255
# A shorter name stands in every text, and fewer digits may be any quantity (curation/pii/known.py).
MIN_NAME_LETTERS, MIN_PHONE_DIGITS = 2, 7


def checked(profile: Profile) -> Profile:
    """Return the profile without spaces around values and without repetitions. Raises InputError."""
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
            f"A value of a profile's {kind} cannot be one.",
            remedy=f"A name has {MIN_NAME_LETTERS} letters, an address an @, a phone {MIN_PHONE_DIGITS} digits "
            f"and no letter; all at most {MAX_CHARACTERS} characters.",
            param=kind,
        )
    return kept
