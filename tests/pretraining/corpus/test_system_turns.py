from random import Random

import pytest

from mongars.conversation.prompt import MEMORY_NOTE, SYSTEM_PROMPT, quote_memory
from mongars.pretraining.corpus.system_turns import NEIGHBOURS, SAID_AT, with_system_turns
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
def test_a_seeded_share_begins_with_a_system_turn_and_the_rest_is_as_it_was(first: str) -> None:
    before = talks(1000, first=first)
    after = list(with_system_turns(before, Random(3)))
    begun = [talk for talk in after if talk.turns[0].role == "system"]
    recalling = [talk for talk in begun if is_recalling(talk)]
    assert 280 < len(begun) < 380
    assert 55 < len(recalling) < 105
    assert {talk.turns[0].content for talk in begun if not is_recalling(talk)} == {SYSTEM_PROMPT}
    for old, new in zip(before, after, strict=True):
        assert new.turns[-len(old.turns) :] == old.turns
        assert len(new.turns) - len(old.turns) == (new in begun)


def test_memories_are_one_to_three_turns_of_one_near_conversation_quoted_as_the_prompt_quotes() -> None:
    before = talks(300)
    quoted = {
        quote_memory(
            Memory(id="", user="", conversation_id="", role=turn.role, text=turn.content, created_at=SAID_AT)
        ): place
        for place, talk in enumerate(before)
        for turn in talk.turns
    }
    recalling = [
        (place, talk)
        for place, talk in enumerate(with_system_turns(before, Random(3)))
        if talk.turns[0].role == "system" and is_recalling(talk)
    ]
    assert recalling
    for place, talk in recalling:
        sources = {quoted[quote] for quote in quotes(talk)}
        assert 1 <= len(quotes(talk)) <= 3
        assert len(sources) == 1
        assert 0 < abs(sources.pop() - place) <= NEIGHBOURS


def test_a_conversation_alone_recalls_nothing() -> None:
    for seed in range(60):
        (talk,) = with_system_turns(talks(1), Random(seed))
        assert not is_recalling(talk)


def test_a_system_turn_of_its_own_stays_in_the_one_system_turn() -> None:
    own = Conversation(id="o", user="o", turns=(Turn("system", "Be kind."), Turn("user", "Hi")))
    (talk,) = next(
        talks
        for seed in range(60)
        if (talks := list(with_system_turns([own], Random(seed))))[0].turns[0].content != "Be kind."
    )
    assert [turn.role for turn in talk.turns] == ["system", "user"]
    assert talk.turns[0].content == f"{SYSTEM_PROMPT}\n\nBe kind."
