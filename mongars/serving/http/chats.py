"""Which conversation a chat request belongs to, and whether it is remembered: the ways in which clients say so."""

import hashlib
from collections.abc import Mapping

from mongars.serving.http.schemas import ChatRequest

CHAT_HEADERS = ("x-openwebui-chat-id", "x-chat-id")
TASK_HEADER = "x-openwebui-task"
"""Open WebUI sends it with what it asks for itself: a title, tags, follow-up questions."""
METADATA_KEYS = ("conversation", "conversation_id", "chat_id")
TEMPORARY = "local:"
"""How Open WebUI's ids of temporary chats begin."""


def conversation_id(request: ChatRequest, headers: Mapping[str, str], user: str) -> str | None:
    """Return the id of the conversation that a request names, None when it names none.

    Our own ids are in the field `conversation`. An id that another program made, in a header or in `metadata`, is
    an id of this user's only: two users may have the same.
    """
    if request.conversation is not None:
        return request.conversation
    foreign = _foreign_id(request, headers)
    if foreign is None:
        return None
    digest = hashlib.sha256("\0".join((user, foreign)).encode()).hexdigest()
    return f"conv_{digest[:32]}"


def is_remembered(request: ChatRequest, headers: Mapping[str, str]) -> bool:
    """Return whether the exchange may be stored: not if the client forbids it, nor a task or a temporary chat."""
    if request.store is False or headers.get(TASK_HEADER, "").strip():
        return False
    return not (_foreign_id(request, headers) or "").startswith(TEMPORARY)


def _foreign_id(request: ChatRequest, headers: Mapping[str, str]) -> str | None:
    named = [headers.get(name) for name in CHAT_HEADERS]
    named += [(request.metadata or {}).get(key) for key in METADATA_KEYS]
    return next((each.strip() for each in named if each and each.strip()), None)
