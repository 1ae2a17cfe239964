"""Rows from conversations and turns, and the checks of their text, ids and times.

Text is stored exactly as given. A NUL, which PostgreSQL cannot store, and a lone surrogate, which UTF-8 cannot
encode, are refused on every database, because stripping them would change the text.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from mongars.errors import InputError
from mongars.memory.sql.chains import link
from mongars.memory.sql.chats import Place
from mongars.records import ROLES, Turn, new_id

# PostgreSQL's B-tree takes keys of up to 2,704 bytes; the index over (user, id) has two, of 4 bytes a character.
MAX_ID_CHARACTERS = 255


def header_row(conversation_id: str, user: str, source: str, consent: bool, at: datetime) -> dict[str, Any]:
    """Return the row of a conversation. Raises InputError."""
    _check_header(conversation_id, user, source, at)
    return {"id": conversation_id, "user_id": user, "source": source, "consent": consent, "created_at": at}


def message_rows(
    conversation_id: str, turns: Sequence[Turn], place: Place, *, default_time: datetime
) -> list[dict[str, Any]]:
    """Return the rows of turns, from their place on, with new ids. Raises InputError."""
    rows: list[dict[str, Any]] = []
    digest = place.chain
    for position, turn in enumerate(turns, start=place.position):
        if turn.role not in ROLES:
            raise InputError(f"Unknown role {turn.role!r}.", remedy=f"Use one of {', '.join(ROLES)}.")
        check_text("content", turn.content)
        at = turn.created_at or default_time
        _check_time(at)
        digest = None if digest is None else link(digest, turn)
        rows.append(
            {
                "id": new_id("msg"),
                "conversation_id": conversation_id,
                "position": position,
                "role": turn.role,
                "text": turn.content,
                "created_at": at,
                "parent": None if rows else place.parent,
                "chain": digest,
            }
        )
    return rows


def check_ids(**ids: str | None) -> None:
    """Raise InputError for ids that no row can have."""
    for name, value in ids.items():
        check_text(name, value or "")


def check_new_id(name: str, value: str) -> None:
    """Raise InputError for an id that cannot be given to a new row."""
    check_text(name, value)
    if not 1 <= len(value) <= MAX_ID_CHARACTERS:
        raise InputError(
            f"{name} has {len(value)} characters.", remedy=f"Use 1 to {MAX_ID_CHARACTERS}.", param=name
        )


def _check_header(conversation_id: str, user: str, source: str, at: datetime) -> None:
    for name, value in (("id", conversation_id), ("user", user), ("source", source)):
        check_new_id(name, value)
    _check_time(at)


def check_text(name: str, value: str) -> None:
    """Raise InputError for text that not every database can store unchanged."""
    if "\0" in value:
        raise InputError(f"{name} has a NUL character.", remedy="Remove it; not every database can store it.")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InputError(f"{name} has half a surrogate pair.", remedy="Send valid Unicode.") from None


def _check_time(value: datetime) -> None:
    if value.tzinfo is None:
        raise InputError("created_at has no time zone.", remedy="Give ISO 8601 with an offset.")
