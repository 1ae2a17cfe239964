"""Which conversation a chat request continues, and after which of its messages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select

from mongars.memory.sql.branches import Range, current_path
from mongars.memory.sql.chains import START, chain, link
from mongars.memory.sql.tables import conversations, messages
from mongars.records import Turn

MATCHES = 20
"""Chats of one user that begin with the same words, of which the newest are looked at."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where turns go in a conversation.

    The first new one gets `position`; `parent` is null if it follows the message before that. `chain` is the
    digest of the turns before it, null if that is unknown. The first `stored` turns are there already.
    """

    position: int
    parent: int | None
    chain: str | None
    stored: int = 0


def find_chat(connection: Connection, user: str, sent: Sequence[Turn], question: Turn) -> str | None:
    """Return the user's conversation that holds the turns `sent`, None when there is none.

    One with the same question after them comes first: its answer is generated again. Otherwise one that ends with
    them, and then the newest one.
    """
    before = chain(sent)
    if before == START:
        return None
    if same := _with_chain(connection, user, link(before, question)):
        return str(same[0].conversation_id)
    found = _with_chain(connection, user, before)
    ends_there = [row for row in found if row.position == row.last]
    return next((str(row.conversation_id) for row in (*ends_there, *found)), None)


def place_turns(
    connection: Connection, conversation_id: str, sent: Sequence[Turn], turns: Sequence[Turn]
) -> Place:
    """Return where `turns`, a question and its answer, go in a conversation in which a client sent `sent`.

    Without turns that were sent, or where they are not in the conversation, that is the end of the current path.
    """
    last = connection.execute(
        select(messages.c.position, messages.c.chain)
        .where(messages.c.conversation_id == conversation_id)
        .order_by(messages.c.position.desc())
        .limit(1)
    ).first()
    before = chain(sent)
    if last is None:
        return Place(0, None, before)
    end = int(last.position)
    if before != START:
        asked = _position(connection, conversation_id, link(before, turns[0])) if len(turns) > 1 else None
        if asked is not None:
            return Place(end + 1, _parent(asked, end), link(before, turns[0]), stored=1)
        after = _position(connection, conversation_id, before)
        if after is not None:
            return Place(end + 1, _parent(after, end), before)
    return Place(end + 1, None, last.chain)


def path_of(connection: Connection, conversation_id: str) -> list[Range]:
    """Return the positions of the current path of a conversation, newest range first; none when it is empty."""
    return paths_of(connection, [conversation_id]).get(conversation_id, [])


def paths_of(connection: Connection, ids: Sequence[str]) -> dict[str, list[Range]]:
    """Return the current paths of those of the conversations that have messages."""
    of_these = messages.c.conversation_id.in_(ids)
    newest = select(messages.c.conversation_id, func.max(messages.c.position).label("last"))
    rows = connection.execute(newest.where(of_these).group_by(messages.c.conversation_id))
    last: dict[str, int] = {row.conversation_id: row.last for row in rows}
    parents: dict[str, dict[int, int]] = {identity: {} for identity in last}
    branches = select(messages.c.conversation_id, messages.c.position, messages.c.parent)
    for row in connection.execute(branches.where(of_these, messages.c.parent.is_not(None))):
        parents[row.conversation_id][row.position] = row.parent
    return {identity: current_path(parents[identity], end) for identity, end in last.items()}


def on_path(path: Sequence[Range]) -> ColumnElement[bool]:
    """Return the condition that a message is on a path, which is not empty."""
    return or_(*(messages.c.position.between(start, end) for start, end in path))


def _with_chain(connection: Connection, user: str, digest: str) -> Sequence[Row[Any, Any, Any]]:
    """Return the user's messages with a digest, newest first, with the last position of their conversations."""
    others = messages.alias()
    last = (
        select(func.max(others.c.position))
        .where(others.c.conversation_id == messages.c.conversation_id)
        .scalar_subquery()
    )
    return connection.execute(
        select(messages.c.conversation_id, messages.c.position, last.label("last"))
        .join(conversations, conversations.c.id == messages.c.conversation_id)
        .where(and_(messages.c.chain == digest, conversations.c.user_id == user))
        .order_by(messages.c.id.desc())
        .limit(MATCHES)
    ).all()


def _position(connection: Connection, conversation_id: str, digest: str) -> int | None:
    query = select(func.max(messages.c.position)).where(
        messages.c.conversation_id == conversation_id, messages.c.chain == digest
    )
    position: int | None = connection.scalar(query)
    return position


def _parent(position: int, end: int) -> int | None:
    return None if position == end else position
