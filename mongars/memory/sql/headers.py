"""The row of a conversation: added, locked, and checked for its owner."""

from typing import Any

from sqlalchemy import Connection, Row, select, update

from mongars.errors import ConversationNotFoundError
from mongars.memory.sql.database import Database
from mongars.memory.sql.tables import conversations


def insert_if_absent(database: Database, connection: Connection, row: dict[str, Any]) -> bool:
    """Add a conversation unless its id exists; return whether it was added."""
    return database.insert_if_absent(connection, conversations, row, returning=conversations.c.id)


def locked_header(connection: Connection, conversation_id: str) -> Row[Any]:
    """Return the conversation's row, locked until the transaction ends: other appends wait for it."""
    query = select(conversations).where(conversations.c.id == conversation_id).with_for_update()
    header = connection.execute(query).one_or_none()
    if header is None:  # deleted meanwhile
        raise not_found(conversation_id)
    return header


def set_consent(connection: Connection, conversation_id: str, consent: bool) -> None:
    """Allow or forbid training on a conversation."""
    of_this = conversations.c.id == conversation_id
    connection.execute(update(conversations).where(of_this).values(consent=consent))


def check_owner(connection: Connection, user: str, conversation_id: str) -> None:
    """Raise ConversationNotFoundError when the user has no such conversation."""
    query = select(conversations.c.user_id).where(conversations.c.id == conversation_id)
    if connection.scalar(query) != user:
        raise not_found(conversation_id)


def not_found(conversation_id: str) -> ConversationNotFoundError:
    """Return the error for a conversation that does not exist, or belongs to another user."""
    return ConversationNotFoundError(f"No conversation {conversation_id!r}.")
