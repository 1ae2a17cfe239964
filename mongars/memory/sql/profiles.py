"""Profiles in SQL: users' names, e-mail addresses and phone numbers, checked by formats/profile_rules.py."""

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from mongars.formats.profile_rules import KINDS, checked
from mongars.memory.sql.database import Database
from mongars.memory.sql.rows import check_ids, check_text
from mongars.memory.sql.tables import profiles
from mongars.records import Profile


class ProfileRepository:
    """The profiles of all users; every method names its user."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, user: str) -> Profile:
        """Return a user's profile, which may be empty."""
        check_ids(user=user)
        with self._database.transaction(write=False) as connection:
            return profiles_of(connection, [user])[user]

    def put(self, user: str, profile: Profile) -> Profile:
        """Replace a user's profile, or delete it with an empty one; returns it as stored.

        Raises InputError for a value that could not be found in a text, or more of them than MAX_VALUES.
        """
        check_ids(user=user)
        stored = _checked(profile)
        with self._database.transaction(write=True) as connection:
            if stored == Profile():
                delete_profile(connection, user)
            else:
                self._upsert(connection, user, stored)
        self._database.scrub()
        return stored

    def add(self, connection: Connection, user: str, profile: Profile) -> None:
        """Add the values of `profile` to the user's. Raises InputError as `put` does."""
        if profile == Profile():
            return
        # An existing row can be locked, which makes concurrent calls wait for each other.
        empty = {"user_id": user, **_row(Profile())}
        self._database.insert_if_absent(connection, profiles, empty, returning=profiles.c.user_id)
        query = select(profiles).where(profiles.c.user_id == user).with_for_update()
        old = _profile(connection.execute(query).one())
        both = Profile(old.names + profile.names, old.emails + profile.emails, old.phones + profile.phones)
        self._upsert(connection, user, _checked(both))

    def _upsert(self, connection: Connection, user: str, profile: Profile) -> None:
        values = _row(profile)
        statement = self._insert().values(user_id=user, **values)
        connection.execute(statement.on_conflict_do_update(index_elements=[profiles.c.user_id], set_=values))

    def _insert(self) -> sqlite.Insert | postgresql.Insert:
        return sqlite.insert(profiles) if self._database.is_sqlite else postgresql.insert(profiles)


def profiles_of(connection: Connection, users: Iterable[str]) -> dict[str, Profile]:
    """Return the profile of each user, which may be empty."""
    found = dict.fromkeys(users, Profile())
    rows = connection.execute(select(profiles).where(profiles.c.user_id.in_(found)))
    return found | {row.user_id: _profile(row) for row in rows}


def delete_profile(connection: Connection, user: str) -> int:
    """Delete a user's profile; returns how many there were."""
    return connection.execute(delete(profiles).where(profiles.c.user_id == user)).rowcount


def _checked(profile: Profile) -> Profile:
    """Return the profile as it is stored. Raises InputError."""
    normalised = checked(profile)
    for kind in KINDS:
        for value in getattr(normalised, kind):
            check_text(kind, value)
    return normalised


def _row(profile: Profile) -> dict[str, str]:
    return {kind: json.dumps(getattr(profile, kind), ensure_ascii=False) for kind in KINDS}


def _profile(row: Row[Any]) -> Profile:
    return Profile(*(tuple(json.loads(getattr(row, kind))) for kind in KINDS))
