"""Profiles in SQL: the names, e-mail addresses and phone numbers by which users are known.

Owns every query on profiles; what one may hold, mongars/formats/profile_rules.py says. Synchronous, as
persistence.py is. Must not know how a value is found in a text: curation does.
"""

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
        """Return what is known of a user; an empty profile when nothing is."""
        check_ids(user=user)
        with self._database.transaction(write=False) as connection:
            return profiles_of(connection, [user])[user]

    def put(self, user: str, profile: Profile) -> Profile:
        """Keep a profile in place of the one before it; an empty one is deleted. Returns it as it is kept.

        Raises InputError for a value that could not be found in a text, or more of them than MAX_VALUES.
        """
        check_ids(user=user)
        kept = _keepable(profile)
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
        self._upsert(connection, user, _keepable(both))

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


def _keepable(profile: Profile) -> Profile:
    """Return the profile as it is kept. Raises InputError for what it may not hold, and what no database keeps."""
    kept = checked(profile)
    for kind in KINDS:
        for value in getattr(kept, kind):
            check_text(kind, value)
    return kept


def _row(profile: Profile) -> dict[str, str]:
    return {kind: json.dumps(getattr(profile, kind), ensure_ascii=False) for kind in KINDS}


def _profile(row: Row[Any]) -> Profile:
    return Profile(*(tuple(json.loads(getattr(row, kind))) for kind in KINDS))
