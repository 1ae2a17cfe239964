"""The generated conversations and their gold labels."""

import pytest

from mongars.demo.generator import generate


def test_the_same_seed_gives_the_same_conversations() -> None:
    assert generate(100, seed=3) == generate(100, seed=3)
    assert generate(100, seed=3).conversations != generate(100, seed=4).conversations


def test_every_planted_value_is_in_a_conversation() -> None:
    made = generate(300, seed=1)
    text = "\n".join(turn.content for one in made.conversations for turn in one.turns)
    assert set(made.gold.personal) == {"card", "email", "iban", "ip", "phone"}
    for values in made.gold.personal.values():
        assert all(value in text for value in values)


def test_a_planted_duplicate_repeats_an_earlier_conversation_up_to_one_word() -> None:
    made = generate(300, seed=1)
    by_id = {one.id: one for one in made.conversations}
    assert made.gold.duplicates
    for identity in made.gold.duplicates:
        copy = [turn.content for turn in by_id[identity].turns]
        earlier = [
            [turn.content for turn in one.turns] for one in made.conversations if one.id < identity and one.consent
        ]
        assert any(
            len(other) == len(copy) and sum(a != b for a, b in zip(other, copy, strict=True)) <= 1
            for other in earlier
        )


def test_conversations_alternate_between_user_and_assistant() -> None:
    for one in generate(200, seed=5).conversations:
        assert [turn.role for turn in one.turns] == ["user", "assistant"] * (len(one.turns) // 2)


@pytest.mark.parametrize("users", [1, 8])
def test_conversations_are_spread_over_the_users(users: int) -> None:
    assert len({one.user for one in generate(50, seed=2, users=users).conversations}) == users


def test_consent_is_missing_exactly_where_the_gold_labels_say() -> None:
    made = generate(100, seed=2)
    assert {one.id for one in made.conversations if not one.consent} == made.gold.no_consent
