"""Which rows stay: one of each group of duplicates, the same one whatever the order."""

import random

import pytest

from mongars.curation.cleaning import Cleaner, as_table
from mongars.curation.dedup import normalise, shingle_hashes
from mongars.curation.quality import DropReason
from mongars.curation.recipe import CurationRecipe
from mongars.curation.selection import select
from mongars.records import Conversation, Turn, now

RECIPE = CurationRecipe()
OPENINGS = (
    "Where is the library",
    "How warm is it in Porto",
    "Please book two seats",
    "My bicycle lost its chain",
)
ANSWER = "Let me see what I can find out about that for you."


def conversation(identity, text, user="u", answer=ANSWER):
    return Conversation(identity, user, (Turn("user", text), Turn("assistant", answer)), consent=True)


def long_text(seed):
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("abcdefghijklmnoprstuvw", k=6)) for _ in range(60))


def selected(conversations, recipe=RECIPE):
    """Return {id: split} of what stays, and the reasons; languages play no part in these tests."""
    cleaner = Cleaner(recipe, now(), b"s" * 32)
    rows = [cleaner.clean(key, item) for key, item in enumerate(conversations)]
    texts = {row.key: normalise([message["content"] for message in row.messages]) for row in rows}
    result = select(as_table(rows), recipe, lambda keys: {key: shingle_hashes(texts[key]) for key in keys})
    kept = {conversations[key].id: str(split) for key, split in zip(result.keys, result.splits, strict=True)}
    assert len(kept) + sum(result.dropped.values()) == sum(row.outcome == "kept" for row in rows)
    return kept, result.dropped


@pytest.fixture(autouse=True)
def any_language(monkeypatch):
    monkeypatch.setattr("mongars.curation.cleaning.detect_language", lambda _texts, languages: languages[0])


def test_of_exact_copies_the_smallest_id_stays():
    kept, dropped = selected([conversation("b", OPENINGS[0]), conversation("a", OPENINGS[0] + " ", user="v")])
    assert set(kept) == {"a"}
    assert dropped == {DropReason.EXACT_DUPLICATE: 1}


def test_of_near_copies_the_smallest_id_stays_and_strangers_stay():
    text = long_text(1)
    conversations = [
        conversation("b", text),
        conversation("a", text + " indeed", "v"),
        conversation("c", long_text(2)),
    ]
    kept, dropped = selected(conversations)
    assert set(kept) == {"a", "c"}
    assert dropped == {DropReason.NEAR_DUPLICATE: 1}


def test_of_one_id_with_two_contents_the_longer_conversation_stays():
    short = conversation("a", OPENINGS[0])
    longer = Conversation("a", "u", (*short.turns, Turn("user", "Thanks"), Turn("assistant", "Bye")), consent=True)
    other = conversation("a", OPENINGS[1])
    for order in ([short, longer, other], [other, longer, short]):
        kept, dropped = selected(order)
        assert set(kept) == {"a"}
        assert dropped == {DropReason.DUPLICATE_ID: 2}


def test_the_choice_does_not_depend_on_the_order_of_rows():
    base = [conversation(f"c{n:02d}", long_text(n % 12) + " x" * (n % 3), user=f"u{n % 7}") for n in range(40)]
    expected = selected(base)
    for seed in range(5):
        mixed = random.Random(seed).sample(base, len(base))
        assert selected(mixed) == expected


def test_nobody_is_on_both_sides_of_the_split():
    recipe = CurationRecipe(test_share=0.4)
    conversations = [conversation(f"c{n}", long_text(n), user=f"u{n % 10}") for n in range(60)]
    kept, _ = selected(conversations, recipe)
    sides = {
        item.user: {kept[other.id] for other in conversations if other.user == item.user} for item in conversations
    }
    assert all(len(side) == 1 for side in sides.values())
    assert len(set(kept.values())) == 2


def test_no_rows_are_an_empty_selection():
    assert selected([]) == ({}, {})
