"""Feedback in SQL: users' ratings of answers and of recalled memories, and the opinions to learn from them.

Feedback is deleted with the messages that it is about.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, select

from mongars.errors import FeedbackNotFoundError, InputError, MessageNotFoundError
from mongars.memory.pages import Page, PageQuery
from mongars.memory.sql.database import Database
from mongars.memory.sql.paging import read_page
from mongars.memory.sql.rows import check_ids, check_text
from mongars.memory.sql.tables import conversations, feedback, messages
from mongars.records import Feedback, FeedbackName, Opinion, new_id, now

_ANSWER, _MEMORY, _QUERY = messages.alias("answer"), messages.alias("memory"), messages.alias("question")
_MEMORY_CONVERSATION = conversations.alias("memory_conversation")
_TEXTS, _YES_OR_NO = ("comment", "correction"), ("thumbs", "retrieval")


class FeedbackRepository:
    """The feedback of all users; every method names its user."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def give(
        self,
        user: str,
        name: FeedbackName,
        value: bool | float | str,
        *,
        message_id: str | None = None,
        conversation_id: str | None = None,
        memory_id: str | None = None,
        rationale: str | None = None,
    ) -> Feedback:
        """Store feedback on an answer, instead of earlier feedback of the same name.

        Without a `message_id` it is about the conversation's last answer. A retrieval is about a memory that was
        recalled for the answer. Raises InputError for a value that the name cannot have, MessageNotFoundError for
        a message that the user does not have.
        """
        _check(name, value, memory_id, rationale)
        check_ids(user=user, message_id=message_id, conversation_id=conversation_id, memory_id=memory_id)
        with self._database.transaction(write=True) as connection:
            answer = _answer(connection, user, message_id, conversation_id)
            if memory_id is not None:
                _own_message(connection, user, memory_id)
            new = Feedback(
                new_id("fb"), answer.conversation_id, answer.id, name, value, memory_id, rationale, now()
            )
            same = (feedback.c.message_id == answer.id) & (feedback.c.name == name)
            connection.execute(delete(feedback).where(same & (feedback.c.memory_id == memory_id)))
            connection.execute(insert(feedback).values(_row(new)))
        return new

    def page(self, user: str, page: PageQuery) -> Page[Feedback]:
        """List a user's feedback in the order of its creation."""
        check_ids(user=user, after=page.after)
        after = None if page.after is None else [page.after]
        with self._database.transaction(write=False) as connection:
            return read_page(connection, _of_user(user), [feedback.c.id], page, after, _feedback)

    def of_conversation(self, user: str, conversation_id: str) -> tuple[Feedback, ...]:
        """Return the feedback on a conversation of the user."""
        check_ids(user=user, conversation_id=conversation_id)
        query = _of_user(user).where(_ANSWER.c.conversation_id == conversation_id).order_by(feedback.c.id)
        with self._database.transaction(write=False) as connection:
            return tuple(map(_feedback, connection.execute(query)))

    def withdraw(self, user: str, feedback_id: str) -> None:
        """Erase feedback. Raises FeedbackNotFoundError when the user has no such feedback."""
        check_ids(user=user, feedback_id=feedback_id)
        with self._database.transaction(write=True) as connection:
            if connection.execute(_of_user(user).where(feedback.c.id == feedback_id)).first() is None:
                raise FeedbackNotFoundError(f"No feedback {feedback_id!r}.")
            connection.execute(delete(feedback).where(feedback.c.id == feedback_id))
        self._database.scrub()


def opinions_on(connection: Connection, conversation_ids: Sequence[str]) -> dict[str, list[Opinion]]:
    """Return the opinions in the feedback on conversations, by conversation, in the order of its creation.

    A correction is a good answer, and the corrected answer a bad one. A memory counts only with consent to its own
    conversation. Ratings and comments call no text good or bad, and an answer without a question has no query.
    """
    query_text = (
        select(_QUERY.c.text)
        .where(
            _QUERY.c.conversation_id == _ANSWER.c.conversation_id,
            _QUERY.c.role == "user",
            _QUERY.c.position <= func.coalesce(_ANSWER.c.parent, _ANSWER.c.position - 1),
        )
        .order_by(_QUERY.c.position.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = (
        select(
            _ANSWER.c.conversation_id,
            feedback.c.name,
            feedback.c.value,
            _ANSWER.c.text.label("answer"),
            _MEMORY.c.text.label("memory"),
            _MEMORY_CONVERSATION.c.consent,
            query_text.label("query"),
        )
        .join(_ANSWER, _ANSWER.c.id == feedback.c.message_id)
        .outerjoin(_MEMORY, _MEMORY.c.id == feedback.c.memory_id)
        .outerjoin(_MEMORY_CONVERSATION, _MEMORY_CONVERSATION.c.id == _MEMORY.c.conversation_id)
        .where(_ANSWER.c.conversation_id.in_(conversation_ids))
        .order_by(feedback.c.id)
    )
    opinions: dict[str, list[Opinion]] = {conversation_id: [] for conversation_id in conversation_ids}
    for row in connection.execute(query):
        if row.query is not None:
            opinions[row.conversation_id] += _opinions(row)
    return opinions


def _opinions(row: Any) -> list[Opinion]:
    value = json.loads(row.value)
    match row.name:
        case "thumbs":
            return [Opinion(row.query, row.answer, value)]
        case "correction":
            return [Opinion(row.query, row.answer, False), Opinion(row.query, value, True)]
        case "retrieval" if row.consent:
            return [Opinion(row.query, row.memory, value)]
    return []


def _of_user(user: str) -> Select[Any]:
    return (
        select(feedback, _ANSWER.c.conversation_id)
        .join(_ANSWER, _ANSWER.c.id == feedback.c.message_id)
        .join(conversations, conversations.c.id == _ANSWER.c.conversation_id)
        .where(conversations.c.user_id == user)
    )


def _answer(connection: Connection, user: str, message_id: str | None, conversation_id: str | None) -> Row[Any]:
    """Return the answer that the feedback is about, as (id, conversation_id, role)."""
    if (message_id is None) == (conversation_id is None):
        raise InputError(
            "The feedback names no answer, or two.", remedy="Give either message_id or conversation_id."
        )
    # The lock makes concurrent calls wait for each other; SQLite locks whole transactions.
    if message_id is not None:
        answer = _own_message(connection, user, message_id, lock=True)
        if answer.role != "assistant":
            raise InputError("Feedback is about answers.", remedy="Name a message of the assistant.")
        return answer
    query = _own_messages(user).where(
        messages.c.conversation_id == conversation_id, messages.c.role == "assistant"
    )
    last = connection.execute(
        query.order_by(messages.c.position.desc()).limit(1).with_for_update(of=messages)
    ).one_or_none()
    if last is None:
        raise MessageNotFoundError(f"No answer in a conversation {conversation_id!r}.")
    return last


def _own_message(connection: Connection, user: str, message_id: str, *, lock: bool = False) -> Row[Any]:
    query = _own_messages(user).where(messages.c.id == message_id)
    found = connection.execute(query.with_for_update(of=messages) if lock else query).one_or_none()
    if found is None:
        raise MessageNotFoundError(f"No message {message_id!r}.")
    return found


def _own_messages(user: str) -> Select[Any]:
    return (
        select(messages.c.id, messages.c.conversation_id, messages.c.role)
        .join(conversations, conversations.c.id == messages.c.conversation_id)
        .where(conversations.c.user_id == user)
    )


def _check(name: str, value: bool | float | str, memory_id: str | None, rationale: str | None) -> None:
    """Raise InputError for a value or a memory that the name cannot have."""
    if name in _TEXTS:
        fits, expected = isinstance(value, str) and bool(value.strip()), "a text"
    elif name in _YES_OR_NO:
        fits, expected = isinstance(value, bool), "true or false"
    else:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fits, expected = number and math.isfinite(float(value)), "a number"
    if not fits:
        raise InputError(f"{name} cannot have this value.", remedy=f"Give {expected}.", param="value")
    if (name == "retrieval") != (memory_id is not None):
        raise InputError("A memory_id goes with a retrieval, and only with one.", param="memory_id")
    for part, text in (("value", value), ("rationale", rationale)):
        if isinstance(text, str):
            check_text(part, text)


def _row(record: Feedback) -> dict[str, Any]:
    return {
        "id": record.id,
        "message_id": record.message_id,
        "memory_id": record.memory_id,
        "name": record.name,
        "value": json.dumps(record.value),
        "rationale": record.rationale,
        "created_at": record.created_at,
    }


def _feedback(row: Row[Any]) -> Feedback:
    return Feedback(
        id=row.id,
        conversation_id=row.conversation_id,
        message_id=row.message_id,
        name=row.name,
        value=json.loads(row.value),
        memory_id=row.memory_id,
        rationale=row.rationale,
        created_at=row.created_at,
    )
