"""Adds to some conversations the system turn that Cortex puts before every conversation in serving.

Without it a model would see that turn for the first time in serving. The wording is that of
`mongars.conversation.prompt`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

from mongars.conversation.prompt import PromptBudget, build_prompt, count_by_characters
from mongars.records import Conversation, Memory, Turn

SYSTEM_SHARE = 0.25
MEMORY_SHARE = 0.08
MAX_MEMORIES = 3
# Recalled memories are mostly on the topic, and data sets are mostly sorted by topic, so memories come from
# nearby.
NEIGHBOURS = 20
# No data set has dates. A constant carries no information that a model could learn.
CREATED_AT = datetime(2025, 3, 14, 9, 0, tzinfo=UTC)
# The context of the small base. Memories beyond their part of it are left out, as in serving.
BUDGET = PromptBudget(tokens=512, count=count_by_characters)
# `build_prompt` requires a question at the end. The system turn does not depend on it.
_QUESTION = Turn("user", "?")


def with_system_turns(conversations: Sequence[Conversation], rng: Random) -> Iterator[Conversation]:
    """Yield the conversations in order: MEMORY_SHARE of them with the system prompt and one to three memories.

    SYSTEM_SHARE of them get the system prompt alone, as do those whose memories do not fit. Memories are turns of
    one other conversation, if there is one.
    """
    for index, conversation in enumerate(conversations):
        uniform = rng.random()
        if uniform >= MEMORY_SHARE + SYSTEM_SHARE:
            yield conversation
            continue
        memories = _memories(conversations, index, rng) if uniform < MEMORY_SHARE else []
        system = build_prompt([*conversation.turns, _QUESTION], memories, BUDGET).turns[0]
        rest = (turn for turn in conversation.turns if turn.role != "system")
        yield replace(conversation, turns=(system, *rest))


def _memories(conversations: Sequence[Conversation], index: int, rng: Random) -> list[Memory]:
    first = max(0, index - NEIGHBOURS)
    others = [*conversations[first:index], *conversations[index + 1 : index + 1 + NEIGHBOURS]]
    if not others:
        return []
    other = rng.choice(others)
    turns = [turn for turn in other.turns if turn.role != "system"]
    chosen = rng.sample(turns, min(len(turns), rng.randint(1, MAX_MEMORIES)))
    return [
        Memory(
            id=f"{other.id}-{number}",
            user=other.user,
            conversation_id=other.id,
            role=turn.role,
            text=turn.content,
            created_at=CREATED_AT,
        )
        for number, turn in enumerate(chosen)
    ]
