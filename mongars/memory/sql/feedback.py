"""Feedback in SQL: what users said of answers and of recalled memories, and what may be learned from it.

Owns every query on feedback, which lies beside the messages that it is about and goes with them. Synchronous, as
persistence.py is. Must not know curation or models.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, select

from mongars.errors import FeedbackNotFoundError, InputError, MessageNotFoundError
from mongars.memory.pages import Page, PageQuery
from mongars.memory.sql.database import Database
from mongars.memory.sql.paging import paged
from mongars.memory.sql.rows import check_ids, check_text
from mongars.memory.sql.tables import conversations, feedback, messages
from mongars.records import Feedback, FeedbackName, Opinion, new_id, now

_ANSWER, _MEMORY, _ASKED = messages.alias("answer"), messages.alias("memory"), messages.alias("asked")
_HOME = conversations.alias("home")  # the conversation of a memory
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
        """Keep what a user says of an answer; it replaces what was said of the same before.

        A retrieval is about a memory that was recalled for the answer. Raises InputError for a value that the name
        cannot have, MessageNotFoundError for what is not the user's.
        """
        _check(name, value, memory_id, rationale)
        check_ids(user=user, message_id=message_id, conversation_id=conversation_id, memory_id=memory_id)
        with self._database.transaction(write=True) as connection:
            answer = _answer(connection, user, message_id, conversation_id)
            if memory_id is not None:
                _own_message(connection, user, memory_id)
            given = Feedback(
                new_id("fb"), answer.conversation_id, answer.id, name, value, memory_id, rationale, now()
            )
            same = (feedback.c.message_id == answer.id) & (feedback.c.name == name)
            connection.execute(delete(feedback).where(same & (feedback.c.memory_id == memory_id)))
            connection.execute(insert(feedback).values(_row(given)))
        return given

    def page(self, user: str, page: PageQuery) -> Page[Feedback]:
        """List a user's feedback in the order it was given."""
        check_ids(user=user, after=page.after)
        query = paged(_theirs(user), feedback.c.id, page, page.after)
        with self._database.transaction(write=False) as connection:
            found = connection.execute(query).all()
        return Page(tuple(map(_feedback, found[: page.limit])), has_more=len(found) > page.limit)

    def of_conversation(self, user: str, conversation_id: str) -> tuple[Feedback, ...]:
        """Return all feedback on a conversation of the user."""
        check_ids(user=user, conversation_id=conversation_id)
        query = _theirs(user).where(_ANSWER.c.conversation_id == conversation_id).order_by(feedback.c.id)
        with self._database.transaction(write=False) as connection:
            return tuple(map(_feedback, connection.execute(query)))

    def withdraw(self, user: str, feedback_id: str) -> None:
        """Delete feedback for good. Raises FeedbackNotFoundError when the user gave no such."""
        check_ids(user=user, feedback_id=feedback_id)
        with self._database.transaction(write=True) as connection:
            if connection.execute(_theirs(user).where(feedback.c.id == feedback_id)).first() is None:
                raise FeedbackNotFoundError(f"No feedback {feedback_id!r}.")
            connection.execute(delete(feedback).where(feedback.c.id == feedback_id))
        self._database.scrub()


def opinions_on(connection: Connection, conversation_ids: Sequence[str]) -> dict[str, list[Opinion]]:
    """Return what may be learned from the feedback on conversations, by conversation, in the order it was given.

    A correction is a good answer and what it corrects a bad one. A memory counts only where its own conversation
    may be trained on. Ratings and comments do not say that a text is good or bad, and an answer that nobody asked
    for has no query.
    """
    asked = (
        select(_ASKED.c.text)
        .where(
            _ASKED.c.conversation_id == _ANSWER.c.conversation_id,
            _ASKED.c.role == "user",
            _ASKED.c.position < _ANSWER.c.position,
        )
        .order_by(_ASKED.c.position.desc())
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
            _HOME.c.consent,
            asked.label("query"),
        )
        .join(_ANSWER, _ANSWER.c.id == feedback.c.message_id)
        .outerjoin(_MEMORY, _MEMORY.c.id == feedback.c.memory_id)
        .outerjoin(_HOME, _HOME.c.id == _MEMORY.c.conversation_id)
        .where(_ANSWER.c.conversation_id.in_(conversation_ids))
        .order_by(feedback.c.id)
    )
    found: dict[str, list[Opinion]] = {conversation_id: [] for conversation_id in conversation_ids}
    for row in connection.execute(query):
        if row.query is not None:
            found[row.conversation_id] += _opinions(row)
    return found


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


def _theirs(user: str) -> Select[Any]:
    return (
        select(feedback, _ANSWER.c.conversation_id)
        .join(_ANSWER, _ANSWER.c.id == feedback.c.message_id)
        .join(conversations, conversations.c.id == _ANSWER.c.conversation_id)
        .where(conversations.c.user_id == user)
    )


def _answer(connection: Connection, user: str, message_id: str | None, conversation_id: str | None) -> Row[Any]:
    """Return the answer that is meant, as (id, conversation_id, role)."""
    if (message_id is None) == (conversation_id is None):
        raise InputError(
            "It is not told what the feedback is about.", remedy="Give message_id or conversation_id."
        )
    # Locked, so that two who say the same at once do so one after the other; SQLite locks whole transactions.
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
        fits, wanted = isinstance(value, str) and bool(value.strip()), "a text"
    elif name in _YES_OR_NO:
        fits, wanted = isinstance(value, bool), "true or false"
    else:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fits, wanted = number and math.isfinite(float(value)), "a number"
    if not fits:
        raise InputError(f"{name} has no such value.", remedy=f"Give {wanted}.", param="value")
    if (name == "retrieval") != (memory_id is not None):
        raise InputError("A retrieval is about a memory, and nothing else is.", param="memory_id")
    for part, text in (("value", value), ("rationale", rationale)):
        if isinstance(text, str):
            check_text(part, text)


def _row(given: Feedback) -> dict[str, Any]:
    return {
        "id": given.id,
        "message_id": given.message_id,
        "memory_id": given.memory_id,
        "name": given.name,
        "value": json.dumps(given.value),
        "rationale": given.rationale,
        "created_at": given.created_at,
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
