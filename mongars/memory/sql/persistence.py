"""Conversations in SQL: the source of truth, from which the index, the cache and the datasets can be rebuilt.

Feedback is in feedback.py, profiles in profiles.py, users' own consent in consents.py. All of it is synchronous:
callers run it on a thread.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, false, func, insert, select

from mongars.errors import InputError
from mongars.memory.pages import ConversationRow, Page, PageQuery
from mongars.memory.sql.chats import find_chat, on_path, path_of, place_turns
from mongars.memory.sql.consents import ConsentRepository, chosen_consent, delete_consent
from mongars.memory.sql.database import Database
from mongars.memory.sql.feedback import FeedbackRepository
from mongars.memory.sql.headers import check_owner, insert_if_absent, locked_header, not_found, set_consent
from mongars.memory.sql.imports import Saved, save, take_unindexed
from mongars.memory.sql.paging import read_page
from mongars.memory.sql.profiles import ProfileRepository, delete_profile
from mongars.memory.sql.rows import check_ids, check_new_id, header_row, message_rows
from mongars.memory.sql.streams import stream
from mongars.memory.sql.tables import conversations, feedback, messages, unindexed
from mongars.memory.sql.tombstones import bury, conversation_key, is_buried, user_key
from mongars.records import ChatRef, Conversation, Memory, Turn, now

CHUNK = 256  # rows of a stream that are in memory at once
MAX_EARLIER_TURNS = 200  # of a conversation for one prompt, whose budget is a few thousand tokens

_MEMORY = (
    messages.c.id,
    conversations.c.user_id,
    messages.c.conversation_id,
    messages.c.role,
    messages.c.text,
    messages.c.created_at,
)


class PersistenceRepository:
    """The conversations of all users. Every read names its user, except the streams for curation and the index."""

    def __init__(self, url: str) -> None:
        """Prepare for the SQLAlchemy `url`. Raises SettingsError for one that cannot be used."""
        self._database = Database(url)
        self.feedback = FeedbackRepository(self._database)
        self.profiles = ProfileRepository(self._database)
        self.consents = ConsentRepository(self._database)

    def migrate(self) -> None:
        """Upgrade the schema to the newest revision; safe to repeat and to run in several processes at once.

        Raises RefusedError for a database of a newer version.
        """
        self._database.migrate()

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    # Writing

    def save_conversation(self, conversation: Conversation) -> Saved:
        """Store a whole conversation, or of one that is there already what is new.

        Turns after the stored ones are appended, and consent that it no longer gives is withdrawn; an older copy
        of it changes nothing. A turn without a time gets the conversation's; its profile is added to the user's.
        Raises InputError for text that cannot be stored, and RefusedError when the id belongs to another user.
        """
        check_ids(user=conversation.user)
        with self._database.transaction(write=True) as connection:
            self._database.lock_user(connection, conversation.user)
            saved = save(self._database, connection, conversation)
            if saved.new or saved.appended:
                self.profiles.add(connection, conversation.user, conversation.profile)
        return saved

    def append_turns(
        self,
        conversation_id: str,
        user: str,
        turns: Sequence[Turn],
        *,
        sent: Sequence[Turn] = (),
        consent: bool = False,
        source: str = "mongars",
        asked_at: datetime | None = None,
    ) -> tuple[Memory, ...]:
        """Add turns to a conversation, which is created when the id is new; returns those that were added.

        `sent` are the turns that the client sent before them. Where the conversation continues differently after
        these, the turns begin a branch; a question that it has there already is not stored again. Nothing is added
        when the user or the conversation was erased since `asked_at`. A conversation keeps its consent only while
        every append gives it: consent to some turns is not consent to the others. A choice of the user counts
        instead. Raises InputError, and ConversationNotFoundError for another user's id.
        """
        check_ids(user=user, conversation_id=conversation_id)
        at = now()
        with self._database.transaction(write=True) as connection:
            self._database.lock_user(connection, user)
            if asked_at and is_buried(connection, user, conversation_id, asked_at):
                return ()
            if (chosen := chosen_consent(connection, user)) is not None:
                consent = chosen
            new_header = header_row(conversation_id, user, source, consent, at)
            insert_if_absent(self._database, connection, new_header)
            header = locked_header(connection, conversation_id)
            if header.user_id != user:
                raise not_found(conversation_id)
            if header.consent and not consent:
                set_consent(connection, conversation_id, False)
            place = place_turns(connection, conversation_id, sent, turns)
            rows = message_rows(conversation_id, turns[place.stored :], place, default_time=at)
            if rows:
                connection.execute(insert(messages), rows)
        return tuple(
            Memory(row["id"], user, conversation_id, row["role"], row["text"], row["created_at"]) for row in rows
        )

    # Reading

    def open_chat(self, user: str, chat: ChatRef, question: Turn) -> tuple[str | None, tuple[Memory, ...]]:
        """Return the conversation that a request continues, None for a new one, and its messages for the prompt.

        Those are the newest ones that were spoken on its current path, oldest first: system turns of an import are
        no instructions of ours. There are none when the client sent the turns itself. Raises
        ConversationNotFoundError for another user's id, InputError for one that none can have.
        """
        check_ids(user=user)
        if chat.id is not None:
            check_new_id("conversation", chat.id)
        with self._database.transaction(write=False) as connection:
            if chat.id is None:
                return find_chat(connection, user, chat.sent, question), ()
            owner = connection.scalar(select(conversations.c.user_id).where(conversations.c.id == chat.id))
            if owner not in (None, user):
                raise not_found(chat.id)
            path = [] if chat.sent else path_of(connection, chat.id)
            if not path:
                return chat.id, ()
            is_spoken = messages.c.role != "system"
            query = _memories().where(messages.c.conversation_id == chat.id, on_path(path), is_spoken)
            newest = query.order_by(messages.c.position.desc()).limit(MAX_EARLIER_TURNS)
            return chat.id, tuple(map(_memory, connection.execute(newest)))[::-1]

    def conversations(self, user: str, page: PageQuery) -> Page[ConversationRow]:
        """List a user's conversations in the order of their beginning.

        Raises InputError for an `after` that is none of them.
        """
        check_ids(user=user, after=page.after)
        turns = (
            select(func.count())
            .select_from(messages)
            .where(messages.c.conversation_id == conversations.c.id)
            .scalar_subquery()
        )
        query = select(conversations, turns.label("turns")).where(conversations.c.user_id == user)
        with self._database.transaction(write=False) as connection:
            after = _beginning(connection, user, page.after) if page.after else None
            keys = [conversations.c.created_at, conversations.c.id]
            return read_page(connection, query, keys, page, after, _conversation_row)

    def messages(self, user: str, conversation_id: str, page: PageQuery) -> Page[Memory]:
        """List the messages on a conversation's current path, in their order.

        Raises ConversationNotFoundError when the user has no such conversation, InputError for an `after` that is
        not in it.
        """
        check_ids(user=user, conversation_id=conversation_id, after=page.after)
        with self._database.transaction(write=False) as connection:
            check_owner(connection, user, conversation_id)
            after = [_position(connection, conversation_id, page.after)] if page.after else None
            path = path_of(connection, conversation_id)
            query = _memories().where(
                messages.c.conversation_id == conversation_id, on_path(path) if path else false()
            )
            return read_page(connection, query, [messages.c.position], page, after, _memory)

    def memories(self, user: str, ids: Sequence[str]) -> dict[str, Memory]:
        """Return those of the user's messages that exist, by id."""
        check_ids(user=user)
        with self._database.transaction(write=False) as connection:
            query = _memories().where(conversations.c.user_id == user, messages.c.id.in_(ids))
            return {row.id: _memory(row) for row in connection.execute(query)}

    def existing(self, ids: Sequence[str]) -> set[str]:
        """Return those of the message ids that exist, of any user."""
        with self._database.transaction(write=False) as connection:
            return set(connection.scalars(select(messages.c.id).where(messages.c.id.in_(ids))))

    def memory_chunks(self, size: int = CHUNK) -> Iterator[list[Memory]]:
        """Stream every message of every user in order of id, `size` at a time, to rebuild the index."""
        after = ""
        while True:
            with self._database.transaction(write=False) as connection:
                query = _memories().where(messages.c.id > after).order_by(messages.c.id).limit(size)
                chunk = [_memory(row) for row in connection.execute(query)]
            if not chunk:
                return
            yield chunk
            after = chunk[-1].id

    def take_unindexed(self) -> list[Memory]:
        """Return the messages of some conversations that were imported, for the index; nobody gets them again."""
        with self._database.transaction(write=False) as connection:
            if connection.execute(select(unindexed).limit(1)).first() is None:
                return []
        with self._database.transaction(write=True) as connection:
            ids = take_unindexed(connection)
            query = _memories().where(messages.c.conversation_id.in_(ids)).order_by(messages.c.id)
            return [_memory(row) for row in connection.execute(query)]

    def consented(
        self, since: str | None = None, *, newer_than: datetime | None = None, chunk: int = CHUNK
    ) -> Iterator[Conversation]:
        """Stream the conversations with consent to training, in order of id.

        `since` resumes after that id; `newer_than` is the retention limit, before which no conversation may have
        begun. Each chunk is its own short transaction, so that a slow reader blocks nobody.
        """
        allowed: ColumnElement[bool] = conversations.c.consent.is_(True)
        if newer_than is not None:
            allowed &= conversations.c.created_at >= newer_than
        return stream(self._database, allowed, since or "", chunk)

    def count_consented(self) -> int:
        """Return how many conversations `consented` yields."""
        query = select(func.count()).select_from(conversations).where(conversations.c.consent.is_(True))
        with self._database.transaction(write=False) as connection:
            return connection.execute(query).scalar_one()

    def export_user(self, user: str) -> Iterator[Conversation]:
        """Stream all conversations of a user, in order of id."""
        check_ids(user=user)
        return stream(self._database, conversations.c.user_id == user, "", CHUNK)

    # Deleting

    def delete_conversation(self, user: str, conversation_id: str) -> None:
        """Erase a conversation. Raises ConversationNotFoundError when the user has no such one."""
        check_ids(user=user, conversation_id=conversation_id)
        with self._database.transaction(write=True) as connection:
            self._database.lock_user(connection, user)
            bury(connection, conversation_key(user, conversation_id), now())
            owned = (conversations.c.id == conversation_id) & (conversations.c.user_id == user)
            existed = connection.execute(delete(conversations).where(owned)).rowcount
        if not existed:  # a first answer may be under way, which must not be stored either
            raise not_found(conversation_id)
        self._database.scrub()

    def erase_user(self, user: str) -> dict[str, int]:
        """Erase everything of a user; returns the number of rows, by table. Safe to repeat."""
        check_ids(user=user)
        with self._database.transaction(write=True) as connection:
            self._database.lock_user(connection, user)
            bury(connection, user_key(user), now())
            is_owned = conversations.c.user_id == user
            of_owned = messages.c.conversation_id.in_(select(conversations.c.id).where(is_owned))
            about_owned = feedback.c.message_id.in_(select(messages.c.id).where(of_owned))
            num_feedback = connection.execute(delete(feedback).where(about_owned)).rowcount
            num_messages = connection.execute(delete(messages).where(of_owned)).rowcount
            num_conversations = connection.execute(delete(conversations).where(is_owned)).rowcount
            num_profiles = delete_profile(connection, user)
            delete_consent(connection, user)
        self._database.scrub()
        return {
            "conversations": num_conversations,
            "messages": num_messages,
            "feedback": num_feedback,
            "profiles": num_profiles,
        }


def _conversation_row(row: Row[Any]) -> ConversationRow:
    return ConversationRow(row.id, row.user_id, row.source, row.consent, row.created_at, row.turns)


def _memories() -> Select[Any]:
    return select(*_MEMORY).join(conversations, conversations.c.id == messages.c.conversation_id)


def _memory(row: Row[Any]) -> Memory:
    return Memory(row.id, row.user_id, row.conversation_id, row.role, row.text, row.created_at)


def _beginning(connection: Connection, user: str, conversation_id: str) -> tuple[datetime, str]:
    query = select(conversations.c.created_at).where(
        conversations.c.id == conversation_id, conversations.c.user_id == user
    )
    created_at: datetime | None = connection.scalar(query)
    if created_at is None:
        raise InputError(f"No conversation {conversation_id!r} of this user.", param="after")
    return created_at, conversation_id


def _position(connection: Connection, conversation_id: str, message_id: str) -> int:
    query = select(messages.c.position).where(
        messages.c.conversation_id == conversation_id, messages.c.id == message_id
    )
    position: int | None = connection.scalar(query)
    if position is None:
        raise InputError(f"No message {message_id!r} in this conversation.", param="after")
    return position
