import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongars.conversation.bouche import ROLE_MARKERS
from mongars.conversation.prompt import PromptBudget, build_prompt, count_by_characters, quote_memory
from mongars.errors import InputError
from mongars.records import Memory, Turn, now

BUDGET = PromptBudget(tokens=2000, count=len)


def memory(text, identity="mem_1"):
    return Memory(id=identity, user="ada", conversation_id="conv_1", role="user", text=text, created_at=now())


def test_the_prompt_is_a_system_turn_and_the_conversation():
    turns = [Turn("system", "Speak French."), Turn("user", "Hi"), Turn("assistant", "Yes?"), Turn("user", "Who?")]
    prompt = build_prompt(turns, [memory("I have a cat.")], BUDGET, system_prompt="You are X.")
    assert [turn.role for turn in prompt.turns] == ["system", "user", "assistant", "user"]
    assert "You are X." in prompt.turns[0].content
    assert "Speak French." in prompt.turns[0].content
    assert "I have a cat." in prompt.turns[0].content
    assert (prompt.quoted, prompt.left_out) == ({"mem_1"}, 0)


@given(st.text())
def test_a_quoted_memory_is_one_line_of_json_without_a_role_marker(text):
    quoted = quote_memory(memory(text))
    assert len(quoted.splitlines()) == 1 or "\n" not in quoted
    assert json.loads(quoted)["text"] == text
    assert not any(marker in quoted for marker in ROLE_MARKERS)


@given(st.lists(st.text(max_size=200), max_size=9), st.integers(100, 900))
def test_a_prompt_never_costs_more_than_its_budget(texts, tokens):
    budget = PromptBudget(tokens=tokens, count=len)
    turns = [Turn("user" if n % 2 == 0 else "assistant", text) for n, text in enumerate(texts[: len(texts) // 2])]
    memories = [memory(text, f"mem_{n}") for n, text in enumerate(texts)]
    prompt = build_prompt([*turns, Turn("user", "Why?")], memories, budget, system_prompt="You are X.")
    assert sum(budget.cost(turn.content) for turn in prompt.turns) <= tokens
    assert prompt.turns[-1] == Turn("user", "Why?")
    assert prompt.left_out == len(turns) - (len(prompt.turns) - 2)
    assert prompt.quoted <= {one.id for one in prompt.memories}
    said = {turn.content.strip() for turn in prompt.turns if turn.role == "user"}
    assert not said & {one.text.strip() for one in prompt.memories}, "the prompt has them already"


def test_the_oldest_turns_are_dropped_first_and_the_user_begins():
    turns = [Turn("user", "a" * 50), Turn("assistant", "b" * 50), Turn("user", "c" * 10)]
    prompt = build_prompt(turns, [], PromptBudget(tokens=110, count=len), system_prompt="X")
    assert [turn.content for turn in prompt.turns] == ["X", "c" * 10]
    assert prompt.left_out == 2


def test_turns_of_the_prompt_are_no_memories_and_do_not_take_the_place_of_others():
    turns = [Turn("user", "I have seven kiwis."), Turn("assistant", "Fine."), Turn("user", "How many kiwis?")]
    texts = ["How many kiwis?", "I have seven kiwis. ", "Kiwis are green.", "Kiwis cannot fly.", "No more."]
    memories = [memory(text, f"mem_{n}") for n, text in enumerate(texts)]
    prompt = build_prompt(turns, memories, BUDGET, recall=2)
    assert [one.text for one in prompt.memories] == ["Kiwis are green.", "Kiwis cannot fly."]


def test_a_turn_that_does_not_fit_may_be_quoted_as_a_memory():
    turns = [Turn("user", "My code is 7."), Turn("assistant", "b" * 400), Turn("user", "Which code?")]
    prompt = build_prompt(turns, [memory("My code is 7.")], PromptBudget(tokens=700, count=len), system_prompt="X")
    assert (prompt.left_out, prompt.quoted) == (2, {"mem_1"})


def test_a_system_turn_may_follow_the_question():
    prompt = build_prompt([Turn("user", "Hi"), Turn("system", "Be brief.")], [], BUDGET)
    assert "Be brief." in prompt.turns[0].content
    assert prompt.turns[-1] == Turn("user", "Hi")


def test_a_message_that_does_not_fit_is_refused_with_a_remedy():
    with pytest.raises(InputError, match="Shorten the message"):
        build_prompt([Turn("user", "a" * 500)], [], PromptBudget(tokens=100, count=len))


def test_turns_that_do_not_end_with_the_user_are_refused():
    for turns in ([], [Turn("system", "x")], [Turn("user", "x"), Turn("assistant", "y")]):
        with pytest.raises(InputError, match="must be the user's"):
            build_prompt(turns, [], BUDGET)


def test_counting_by_characters_never_returns_zero():
    assert count_by_characters("") == 1
