"""Begins some conversations with the system turn that Cortex puts before every conversation it serves.

Owns how many, and with which memories; the words are those of `mongars.conversation.prompt`. Must not know files.
A model that never saw that turn in training would meet it for the first time when it is served.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

from mongars.conversation.prompt import PromptBudget, build_prompt, count_by_characters
from mongars.records import Conversation, Memory, Turn

SYSTEM_SHARE = 0.25
MEMORY_SHARE = 0.08
MOST_MEMORIES = 3
# Data sets are mostly sorted by topic, and what is recalled is mostly on the topic: it is taken from so near.
NEIGHBOURS = 20
# No data set says when a turn was said. One date for all says nothing that could be learnt.
SAID_AT = datetime(2025, 3, 14, 9, 0, tzinfo=UTC)
# The context of the small base. Memories that do not fit in their part of it are left out, as in serving.
BUDGET = PromptBudget(tokens=512, count=count_by_characters)
# `build_prompt` wants a question at the end. The system turn does not depend on it, and it is not kept.
_QUESTION = Turn("user", "?")


def with_system_turns(conversations: Sequence[Conversation], rng: Random) -> Iterator[Conversation]:
    """Yield the conversations in order: MEMORY_SHARE of them behind the system prompt and one to three memories.

    SYSTEM_SHARE of them have the system prompt alone, as have those whose memories do not fit. Memories are turns
    of one other conversation; where there is no other one there are none.
    """
    for place, conversation in enumerate(conversations):
        drawn = rng.random()
        if drawn >= MEMORY_SHARE + SYSTEM_SHARE:
            yield conversation
            continue
        memories = _memories(conversations, place, rng) if drawn < MEMORY_SHARE else []
        system = build_prompt([*conversation.turns, _QUESTION], memories, BUDGET)[0]
        rest = (turn for turn in conversation.turns if turn.role != "system")
        yield replace(conversation, turns=(system, *rest))


def _memories(conversations: Sequence[Conversation], place: int, rng: Random) -> list[Memory]:
    first = max(0, place - NEIGHBOURS)
    others = [*conversations[first:place], *conversations[place + 1 : place + 1 + NEIGHBOURS]]
    if not others:
        return []
    other = rng.choice(others)
    turns = [turn for turn in other.turns if turn.role != "system"]
    chosen = rng.sample(turns, min(len(turns), rng.randint(1, MOST_MEMORIES)))
    return [
        Memory(
            id=f"{other.id}-{number}",
            user=other.user,
            conversation_id=other.id,
            role=turn.role,
            text=turn.content,
            created_at=SAID_AT,
        )
        for number, turn in enumerate(chosen)
    ]
