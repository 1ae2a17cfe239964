"""JSON objects, or table rows with the same fields, as records.

An error never contains text of a message, because reasons are printed and logged.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from mongars.errors import InputError
from mongars.formats.profile_rules import KINDS, checked
from mongars.records import ROLES, Conversation, Opinion, Profile, Role, Turn

DEFAULT_SOURCE = "file"


class UnreadableError(ValueError):
    """Why a line cannot be read; becomes the reason of a BadLine."""


def identity_of(value: Mapping[str, Any]) -> str:
    """Return the `id`. Raises UnreadableError."""
    identity = _name(value, "id")
    if identity is None:
        raise UnreadableError("no `id`")
    return identity


def text_of(value: Mapping[str, Any]) -> str:
    """Return the non-empty `text`. Raises UnreadableError."""
    text = value.get("text")
    if not isinstance(text, str):
        raise UnreadableError("no `text`" if text is None else "`text` is not a text")
    if not text.strip():
        raise UnreadableError("an empty `text`")
    return _encodable(text)


def as_conversation(value: Mapping[str, Any]) -> Conversation:
    """Return the conversation of a JSON object or table row. Raises UnreadableError."""
    identity = identity_of(value)
    messages = value.get("messages")
    if not isinstance(messages, list):
        raise UnreadableError("no list `messages`")
    turns = tuple(_turn(message, place) for place, message in enumerate(messages, start=1))
    consent = value.get("consent", True)
    if not isinstance(consent, bool):
        raise UnreadableError("`consent` is not true or false")
    created = _time(value.get("created_at"), "`created_at`")
    return Conversation(
        id=identity,
        # Without a user, each conversation has its own subject.
        user=_name(value, "user") or identity,
        turns=turns,
        source=_name(value, "source") or DEFAULT_SOURCE,
        consent=consent,
        created_at=created or next((turn.created_at for turn in turns if turn.created_at), None),
        opinions=tuple(_opinion(each, place) for place, each in enumerate(_opinions(value), start=1)),
        profile=_profile(value.get("profile")),
    )


def _turn(message: Any, place: int) -> Turn:
    if not isinstance(message, dict):
        raise UnreadableError(f"message {place} is not an object")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise UnreadableError(f"message {place} has no role of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise UnreadableError(f"message {place} has no text `content`")
    return Turn(
        cast(Role, role), _encodable(content), _time(message.get("created_at"), f"time of message {place}")
    )


def _opinions(value: Mapping[str, Any]) -> list[Any]:
    found = value.get("opinions")
    if found is None:
        return []
    if not isinstance(found, list):
        raise UnreadableError("`opinions` is not a list")
    return found


def _opinion(value: Any, place: int) -> Opinion:
    if not isinstance(value, dict):
        raise UnreadableError(f"opinion {place} is not an object")
    query, text, good = value.get("query"), value.get("text"), value.get("good")
    if not (isinstance(query, str) and isinstance(text, str) and isinstance(good, bool)):
        raise UnreadableError(f"opinion {place} has no texts `query` and `text` and no `good` of true or false")
    return Opinion(_encodable(query), _encodable(text), good)


def _profile(value: Any) -> Profile:
    """Return the profile; a missing kind of value is empty."""
    if value is None:
        return Profile()
    if not isinstance(value, dict):
        raise UnreadableError("`profile` is not an object")
    try:
        return checked(Profile(*(_known(value.get(kind), kind) for kind in KINDS)))
    except InputError as error:
        raise UnreadableError(error.message.rstrip(".").lower()) from None


def _known(values: Any, kind: str) -> tuple[str, ...]:
    if values is None:
        return ()
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UnreadableError(f"`{kind}` of the profile is not a list of texts")
    return tuple(map(_encodable, values))


def _name(value: Mapping[str, Any], key: str) -> str | None:
    """Return a name as text. It may be an integer, because other tools often number their conversations."""
    found = value.get(key)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        raise UnreadableError(f"`{key}` is not a text or a whole number")
    return _encodable(str(found))


def _encodable(text: str) -> str:
    """Return the text. Raises UnreadableError for half a surrogate pair, which JSON allows and UTF-8 does not."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UnreadableError("half a surrogate pair in a text") from None
    return text


def _time(value: Any, what: str) -> datetime | None:
    """Return a time from ISO 8601 text, a datetime or seconds since 1970; the default offset is UTC."""
    if value is None:
        return None
    try:
        if isinstance(value, datetime):  # of a table; pandas has its own subclass
            return datetime.fromtimestamp((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp(), UTC)
        if isinstance(value, str):
            time = datetime.fromisoformat(value)
            return time if time.tzinfo else time.replace(tzinfo=UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise UnreadableError(f"{what} is not an ISO 8601 time")
