"""Whole conversations from elsewhere: new ones, ones that have grown, and ones whose consent was withdrawn.

A running server did not see them arrive. Their ids wait in a table until it has indexed their messages.
"""

from dataclasses import dataclass, replace

from sqlalchemy import Connection, delete, insert, select

from mongars.errors import RefusedError
from mongars.memory.sql.chains import START
from mongars.memory.sql.chats import Place, on_path, path_of
from mongars.memory.sql.consents import chosen_consent
from mongars.memory.sql.database import Database
from mongars.memory.sql.headers import insert_if_absent, locked_header, set_consent
from mongars.memory.sql.rows import header_row, message_rows
from mongars.memory.sql.tables import messages, unindexed
from mongars.records import Conversation, now

BATCH = 64
"""Conversations whose messages are handed to the index at once."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of a conversation: it was new, `appended` turns were added to it, its consent was withdrawn.

    `differs` says that the stored one has other turns, and was left as it is.
    """

    new: bool = False
    appended: int = 0
    withdrawn: bool = False
    differs: bool = False


def save(database: Database, connection: Connection, conversation: Conversation) -> Saved:
    """Store a conversation, or what is new in it; a user who forbade training gives no consent by a file.

    Raises InputError, RefusedError for an id of another user.
    """
    started = conversation.created_at or next(
        (turn.created_at for turn in conversation.turns if turn.created_at), now()
    )
    if chosen_consent(connection, conversation.user) is False:
        conversation = replace(conversation, consent=False)
    header = header_row(conversation.id, conversation.user, conversation.source, conversation.consent, started)
    rows = message_rows(conversation.id, conversation.turns, Place(0, None, START), default_time=started)
    if insert_if_absent(database, connection, header):
        if rows:
            connection.execute(insert(messages), rows)
            _await_index(database, connection, conversation.id)
        return Saved(new=True, appended=len(rows))
    stored = locked_header(connection, conversation.id)
    if stored.user_id != conversation.user:
        raise RefusedError(
            f"The conversation id {conversation.id!r} is taken by another user.", remedy="Choose another id."
        )
    is_withdrawn = stored.consent and not conversation.consent
    if is_withdrawn:
        set_consent(connection, conversation.id, False)
    appended = _append(connection, conversation)
    if appended:
        _await_index(database, connection, conversation.id)
    return Saved(appended=appended or 0, withdrawn=is_withdrawn, differs=appended is None)


def take_unindexed(connection: Connection, limit: int = BATCH) -> list[str]:
    """Return conversations whose messages may be missing in the index, which nobody gets again."""
    oldest = select(unindexed.c.conversation_id).order_by(unindexed.c.conversation_id).limit(limit)
    ids = list(connection.scalars(oldest))
    connection.execute(delete(unindexed).where(unindexed.c.conversation_id.in_(ids)))
    return ids


def _append(connection: Connection, conversation: Conversation) -> int | None:
    """Add the turns that follow the stored ones; return how many, None if the stored ones are others."""
    path = path_of(connection, conversation.id)
    query = select(messages.c.role, messages.c.text, messages.c.chain).where(
        messages.c.conversation_id == conversation.id
    )
    ordered = query.where(on_path(path)).order_by(messages.c.position) if path else query
    stored = connection.execute(ordered).all()
    known = [(row.role, row.text) for row in stored]
    given = [(turn.role, turn.content) for turn in conversation.turns]
    if known[: len(given)] == given:
        return 0
    if given[: len(known)] != known:
        return None
    place = Place(path[0][1] + 1, None, stored[-1].chain) if path else Place(0, None, START)
    rows = message_rows(conversation.id, conversation.turns[len(known) :], place, default_time=now())
    connection.execute(insert(messages), rows)
    return len(rows)


def _await_index(database: Database, connection: Connection, conversation_id: str) -> None:
    row = {"conversation_id": conversation_id}
    database.insert_if_absent(connection, unindexed, row, returning=unindexed.c.conversation_id)
