from random import Random

import pytest

from mongars.conversation.prompt import MEMORY_NOTE, SYSTEM_PROMPT, quote_memory
from mongars.pretraining.corpus.system_turns import CREATED_AT, NEIGHBOURS, with_system_turns
from mongars.records import Conversation, Memory, Turn


def talks(count: int, *, first: str = "user") -> list[Conversation]:
    other = "assistant" if first == "user" else "user"
    return [
        Conversation(
            id=f"t{number}",
            user=f"t{number}",
            turns=(Turn(first, f"ask {number} <a> [b]"), Turn(other, f"say {number}")),
        )
        for number in range(count)
    ]


def quotes(conversation: Conversation) -> list[str]:
    return conversation.turns[0].content.split(f"{MEMORY_NOTE}\n")[1].split("\n")


def is_recalling(conversation: Conversation) -> bool:
    return MEMORY_NOTE in conversation.turns[0].content


@pytest.mark.parametrize("first", ["user", "assistant"])
def test_a_random_share_starts_with_a_system_turn_and_the_rest_is_unchanged(first: str) -> None:
    before = talks(1000, first=first)
    after = list(with_system_turns(before, Random(3)))
    prompted = [talk for talk in after if talk.turns[0].role == "system"]
    recalling = [talk for talk in prompted if is_recalling(talk)]
    assert 280 < len(prompted) < 380
    assert 55 < len(recalling) < 105
    assert {talk.turns[0].content for talk in prompted if not is_recalling(talk)} == {SYSTEM_PROMPT}
    for old, new in zip(before, after, strict=True):
        assert new.turns[-len(old.turns) :] == old.turns
        assert len(new.turns) - len(old.turns) == (new in prompted)


def test_memories_are_one_to_three_quoted_turns_of_one_nearby_conversation() -> None:
    before = talks(300)
    quoted = {
        quote_memory(
            Memory(id="", user="", conversation_id="", role=turn.role, text=turn.content, created_at=CREATED_AT)
        ): index
        for index, talk in enumerate(before)
        for turn in talk.turns
    }
    recalling = [
        (index, talk)
        for index, talk in enumerate(with_system_turns(before, Random(3)))
        if talk.turns[0].role == "system" and is_recalling(talk)
    ]
    assert recalling
    for index, talk in recalling:
        sources = {quoted[quote] for quote in quotes(talk)}
        assert 1 <= len(quotes(talk)) <= 3
        assert len(sources) == 1
        assert 0 < abs(sources.pop() - index) <= NEIGHBOURS


def test_a_single_conversation_gets_no_memories() -> None:
    for seed in range(60):
        (talk,) = with_system_turns(talks(1), Random(seed))
        assert not is_recalling(talk)


def test_an_existing_system_turn_is_merged_into_the_added_one() -> None:
    own = Conversation(id="o", user="o", turns=(Turn("system", "Be kind."), Turn("user", "Hi")))
    (talk,) = next(
        talks
        for seed in range(60)
        if (talks := list(with_system_turns([own], Random(seed))))[0].turns[0].content != "Be kind."
    )
    assert [turn.role for turn in talk.turns] == ["system", "user"]
    assert talk.turns[0].content == f"{SYSTEM_PROMPT}\n\nBe kind."
