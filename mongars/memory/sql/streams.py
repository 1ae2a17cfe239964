"""Streams of whole conversations, in short transactions: a slow reader blocks nobody."""

from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, Connection, select

from mongars.memory.sql.branches import is_on
from mongars.memory.sql.chats import paths_of
from mongars.memory.sql.database import Database
from mongars.memory.sql.feedback import opinions_on
from mongars.memory.sql.profiles import profiles_of
from mongars.memory.sql.tables import conversations, messages
from mongars.records import Conversation, Turn


def stream(database: Database, condition: ColumnElement[bool], after: str, chunk: int) -> Iterator[Conversation]:
    """Yield the conversations that meet a condition, with ids after `after`, in order of id."""
    query = select(conversations).where(condition).order_by(conversations.c.id).limit(chunk)
    while True:
        with database.transaction(write=False) as connection:
            headers = connection.execute(query.where(conversations.c.id > after)).all()
            ids = [header.id for header in headers]
            turns, abandoned = _turns(connection, ids)
            opinions = opinions_on(connection, ids)
            profiles = profiles_of(connection, {header.user_id for header in headers})
        for header in headers:
            yield Conversation(
                id=header.id,
                user=header.user_id,
                turns=tuple(turns[header.id]),
                source=header.source,
                consent=header.consent,
                created_at=header.created_at,
                opinions=tuple(opinions[header.id]),
                profile=profiles[header.user_id],
                abandoned=tuple(abandoned[header.id]),
            )
        if len(headers) < chunk:
            return
        after = headers[-1].id


def _turns(connection: Connection, ids: Sequence[str]) -> tuple[dict[str, list[Turn]], dict[str, list[Turn]]]:
    """Return the turns on the current paths of conversations, and those that were left behind."""
    turns: dict[str, list[Turn]] = {conversation_id: [] for conversation_id in ids}
    abandoned: dict[str, list[Turn]] = {conversation_id: [] for conversation_id in ids}
    paths = paths_of(connection, ids)
    query = (
        select(
            messages.c.conversation_id,
            messages.c.position,
            messages.c.role,
            messages.c.text,
            messages.c.created_at,
        )
        .where(messages.c.conversation_id.in_(ids))
        .order_by(messages.c.conversation_id, messages.c.position)
    )
    for row in connection.execute(query):
        kind = turns if is_on(paths[row.conversation_id], row.position) else abandoned
        kind[row.conversation_id].append(Turn(row.role, row.text, row.created_at))
    return turns, abandoned
