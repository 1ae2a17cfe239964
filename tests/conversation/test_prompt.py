import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongars.conversation.bouche import ROLE_MARKERS
from mongars.conversation.prompt import PromptBudget, build_prompt, count_by_characters, quote_memory
from mongars.errors import InputError
from mongars.records import Memory, Turn, now

BUDGET = PromptBudget(tokens=2000, count=len)


def memory(text):
    return Memory(id="mem_1", user="ada", conversation_id="conv_1", role="user", text=text, created_at=now())


def test_the_prompt_is_a_system_turn_and_the_conversation():
    turns = [Turn("system", "Speak French."), Turn("user", "Hi"), Turn("assistant", "Yes?"), Turn("user", "Who?")]
    prompt = build_prompt(turns, [memory("I have a cat.")], BUDGET, system_prompt="You are X.")
    assert [turn.role for turn in prompt] == ["system", "user", "assistant", "user"]
    assert "You are X." in prompt[0].content
    assert "Speak French." in prompt[0].content
    assert "I have a cat." in prompt[0].content


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
    prompt = build_prompt(
        [*turns, Turn("user", "Why?")], [memory(text) for text in texts], budget, system_prompt="You are X."
    )
    assert sum(budget.cost(turn.content) for turn in prompt) <= tokens
    assert prompt[-1] == Turn("user", "Why?")


def test_the_oldest_turns_are_dropped_first_and_the_user_begins():
    turns = [Turn("user", "a" * 50), Turn("assistant", "b" * 50), Turn("user", "c" * 10)]
    prompt = build_prompt(turns, [], PromptBudget(tokens=110, count=len), system_prompt="X")
    assert [turn.content for turn in prompt] == ["X", "c" * 10]


def test_a_message_that_does_not_fit_is_refused_with_a_remedy():
    with pytest.raises(InputError, match="Shorten the message"):
        build_prompt([Turn("user", "a" * 500)], [], PromptBudget(tokens=100, count=len))


def test_turns_that_do_not_end_with_the_user_are_refused():
    for turns in ([], [Turn("system", "x")], [Turn("user", "x"), Turn("assistant", "y")]):
        with pytest.raises(InputError, match="must be the user's"):
            build_prompt(turns, [], BUDGET)


def test_counting_by_characters_never_returns_zero():
    assert count_by_characters("") == 1
