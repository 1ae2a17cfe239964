"""Answers that repeat earlier turns or memories are found; short, corrected and original ones are not."""

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongars.conversation.prompt import MEMORY_NOTE, quote_memory
from mongars.curation.filters.repetition import MIN_SHARES, MIN_WORDS, SHINGLE_WORDS, ConversationHistory
from mongars.records import Memory, Turn

FACT = "My sister Anna moved to Lyon in the spring; she plays the cello in an orchestra near the [old] station."
OTHER = "The orchestra plays every second Friday at eight, and you can buy a ticket at the door for twelve euros."


def said(*turns):
    so_far = ConversationHistory()
    for turn in turns:
        so_far.add(turn)
    return so_far


def prompt(*texts):
    quotes = [
        quote_memory(Memory(f"m{n}", "anna", "c", "user", text, datetime(2026, 1, 1, tzinfo=UTC)))
        for n, text in enumerate(texts)
    ]
    return Turn("system", "\n".join(["Answer plainly.", MEMORY_NOTE, *quotes]))


@pytest.mark.parametrize("answer", [FACT, f"{FACT} {OTHER}", f"{FACT} {OTHER} So it is."])
def test_an_answer_made_of_recalled_memories_copies_them(answer):
    assert said(prompt(FACT, OTHER)).source_of(answer) == "memory"


def test_an_answer_that_repeats_the_instructions_of_its_prompt_copies_it():
    assert said(prompt(FACT)).source_of(MEMORY_NOTE) == "memory"


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_an_answer_that_repeats_an_earlier_turn_copies_it(role):
    assert said(Turn(role, FACT), Turn("user", "And then?")).source_of(FACT) == "turn"


@pytest.mark.parametrize(
    "answer",
    [
        "Yes.",
        " ".join(FACT.split()[: MIN_WORDS - 1]),
        f"You told me so: {FACT.lower()} Shall I look for a concert of hers that we could go to this month?",
        "I think that you would like the orchestra that Anna plays in, since it is close to where you work.",
    ],
)
def test_short_and_original_answers_are_not_copies(answer):
    assert said(prompt(FACT), Turn("user", FACT)).source_of(answer) is None


def test_a_correction_of_the_users_words_is_not_a_copy():
    written = " ".join(["She go to the market every day and buys a lot of bread there.", OTHER, FACT])
    corrected = written.replace("She go", "She goes")
    assert said(Turn("user", f"Mend this: {written}")).source_of(corrected) is None
    assert said(Turn("user", f"Mend this: {written}")).source_of(written) == "turn"
    assert said(Turn("assistant", written)).source_of(corrected) == "turn"


def test_broken_json_in_a_system_turn_is_plain_text():
    assert said(Turn("system", '{"text": \n{"text": 1}\n{' + "[" * 10_000)).source_of(FACT) is None


@given(st.integers(0, 2**32), st.integers(MIN_WORDS, 60))
def test_any_long_excerpt_is_a_copy_and_reversed_words_are_not(seed, length):
    rng = random.Random(seed)
    words = [f"w{n}" for n in range(100)]
    start = rng.randrange(100 - length)
    so_far = said(Turn("user", " ".join(words)))
    assert so_far.source_of(" ".join(words[start : start + length])) == "turn"
    assert so_far.source_of(" ".join(words[start : start + length][::-1])) is None


def phrases_of(text):
    words = text.split()
    return {tuple(words[start : start + SHINGLE_WORDS]) for start in range(len(words) - SHINGLE_WORDS + 1)}


# Few words, so that phrases recur within an answer and in its sources.
talk = st.lists(st.sampled_from("abc"), min_size=5, max_size=40).map(" ".join)


@given(st.lists(st.tuples(st.sampled_from(("user", "assistant", "system")), talk), max_size=4), talk)
def test_the_prefilter_does_not_change_the_result(turns, answer):
    held = {source: set() for source in MIN_SHARES}
    for role, text in turns:
        held["memory" if role == "system" else role] |= phrases_of(text)
    own = phrases_of(answer)
    copied = [source for source, share in MIN_SHARES.items() if len(own & held[source]) >= share * len(own)]
    expected = None
    if copied and len(answer.split()) >= MIN_WORDS:
        expected = "memory" if copied[0] == "memory" else "turn"
    assert said(*(Turn(role, text) for role, text in turns)).source_of(answer) == expected
