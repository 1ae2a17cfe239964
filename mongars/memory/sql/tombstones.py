"""What was erased lately: an answer that was under way at that time must not be stored after it."""

import hashlib
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select

from mongars.memory.sql.tables import tombstones

KEPT = timedelta(days=1)
"""Longer than any answer takes. A tombstone names nobody, but whoever knows an id could recognise it."""


def user_key(user: str) -> str:
    """Return the key of everything of a user."""
    return hashlib.sha256(user.encode()).hexdigest()


def conversation_key(user: str, conversation_id: str) -> str:
    """Return the key of a conversation of a user."""
    return hashlib.sha256(f"{user}\0{conversation_id}".encode()).hexdigest()


def bury(connection: Connection, key: str, at: datetime) -> None:
    """Note that what `key` stands for was erased at a time, and drop notes that nobody needs any more."""
    is_outdated = (tombstones.c.key == key) | (tombstones.c.at < at - KEPT)
    connection.execute(delete(tombstones).where(is_outdated))
    connection.execute(insert(tombstones).values(key=key, at=at))


def is_buried(connection: Connection, user: str, conversation_id: str, since: datetime) -> bool:
    """Return whether the user or the conversation was erased at `since` or later."""
    keys = [user_key(user), conversation_key(user, conversation_id)]
    query = select(tombstones.c.key).where(tombstones.c.key.in_(keys), tombstones.c.at >= since).limit(1)
    return connection.execute(query).first() is not None
