"""Profiles in SQL: the names, e-mail addresses and phone numbers by which users are known.

Owns every query on profiles and what a profile may hold. Synchronous, as persistence.py is. Must not know how a
value is found in a text: curation does.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from mongars.errors import InputError
from mongars.memory.database import Database
from mongars.memory.rows import MAX_ID_CHARACTERS, check_ids, check_text
from mongars.memory.tables import profiles
from mongars.records import Profile

MAX_VALUES = 32  # of each kind; all of them are looked for in every text of the user
# A shorter name is found in every text, and fewer digits may be any quantity (curation/pii/known.py).
MIN_NAME_LETTERS, MIN_PHONE_DIGITS = 2, 7


class ProfileRepository:
    """The profiles of all users; every method names its user."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, user: str) -> Profile:
        """Return what is known of a user; an empty profile when nothing is."""
        check_ids(user=user)
        with self._database.transaction(write=False) as connection:
            return profiles_of(connection, [user])[user]

    def put(self, user: str, profile: Profile) -> Profile:
        """Keep a profile in place of the one before it; an empty one is deleted. Returns it as it is kept.

        Raises InputError for a value that could not be found in a text, or more of them than MAX_VALUES.
        """
        check_ids(user=user)
        kept = _checked(profile)
        with self._database.transaction(write=True) as connection:
            if kept == Profile():
                forget_profile(connection, user)
            else:
                self._upsert(connection, user, kept)
        self._database.scrub()
        return kept

    def add(self, connection: Connection, user: str, profile: Profile) -> None:
        """Add the values of `profile` to those that are known of the user. Raises InputError as `put` does."""
        if profile == Profile():
            return
        # A row that is there can be locked, so that two who add at once do so one after the other.
        empty = self._insert().values(user_id=user, **_row(Profile()))
        connection.execute(empty.on_conflict_do_nothing())
        query = select(profiles).where(profiles.c.user_id == user).with_for_update()
        known = _profile(connection.execute(query).one())
        both = Profile(known.names + profile.names, known.emails + profile.emails, known.phones + profile.phones)
        self._upsert(connection, user, _checked(both))

    def _upsert(self, connection: Connection, user: str, profile: Profile) -> None:
        values = _row(profile)
        statement = self._insert().values(user_id=user, **values)
        connection.execute(statement.on_conflict_do_update(index_elements=[profiles.c.user_id], set_=values))

    def _insert(self) -> sqlite.Insert | postgresql.Insert:
        return sqlite.insert(profiles) if self._database.is_sqlite else postgresql.insert(profiles)


def profiles_of(connection: Connection, users: Iterable[str]) -> dict[str, Profile]:
    """Return the profile of each user, an empty one where nothing is known."""
    found = dict.fromkeys(users, Profile())
    rows = connection.execute(select(profiles).where(profiles.c.user_id.in_(found)))
    return found | {row.user_id: _profile(row) for row in rows}


def forget_profile(connection: Connection, user: str) -> int:
    """Delete what is known of a user; returns how many profiles went."""
    return connection.execute(delete(profiles).where(profiles.c.user_id == user)).rowcount


def _checked(profile: Profile) -> Profile:
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
        raise InputError(f"{len(kept)} {kind}.", remedy=f"Give at most {MAX_VALUES}.", param=kind)
    for value in kept:
        check_text(kind, value)
        if len(value) > MAX_ID_CHARACTERS or not fits(value):  # the value itself is personal: never in a message
            raise InputError(
                f"A value of {kind} is none.",
                remedy=f"A name has {MIN_NAME_LETTERS} letters, an address an @, a phone {MIN_PHONE_DIGITS} "
                f"digits and no letter; all at most {MAX_ID_CHARACTERS} characters.",
                param=kind,
            )
    return kept


def _row(profile: Profile) -> dict[str, str]:
    return {kind: json.dumps(getattr(profile, kind), ensure_ascii=False) for kind in ("names", "emails", "phones")}


def _profile(row: Row[Any]) -> Profile:
    return Profile(tuple(json.loads(row.names)), tuple(json.loads(row.emails)), tuple(json.loads(row.phones)))
