"""Digests of the turns of a chat, by which a chat is found whose client names no conversation.

A client of the OpenAI API sends the turns so far with every message. The digest of a turn is chained to that of
the turn before it, so one indexed look-up finds the message that a request continues.
"""

import hashlib
from collections.abc import Iterable

from mongars.records import Turn

START = ""
"""The digest of no turns."""


def link(previous: str, turn: Turn) -> str:
    """Return the digest of a turn after those of `previous`.

    Clients trim white space at the ends of a turn, and choose the system text of each request: neither counts.
    """
    if turn.role == "system":
        return previous
    return hashlib.sha256("\0".join((previous, turn.role, turn.content.strip())).encode()).hexdigest()


def chain(turns: Iterable[Turn]) -> str:
    """Return the digest of turns from the start of a chat."""
    digest = START
    for turn in turns:
        digest = link(digest, turn)
    return digest
