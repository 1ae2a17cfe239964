"""Which rows stay: one of each group of duplicates, the same one whatever the order."""

import random

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mongars.curation.cleaning import Cleaner, as_table
from mongars.curation.dedup import selection
from mongars.curation.dedup.minhash import normalise, shingle_hashes
from mongars.curation.dedup.selection import COLUMNS, select
from mongars.curation.filters.quality import DropReason
from mongars.curation.recipe import CurationRecipe
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


def test_shingles_are_asked_for_a_few_pairs_at_a_time_and_the_choice_is_the_same(monkeypatch):
    texts = [long_text(seed) for seed in range(4)]
    talks = [conversation(f"c{n}", f"{texts[n % 4]} the end {n}", user=f"u{n}") for n in range(16)]
    whole = selected(talks)
    asked = []
    real = selection.jaccard
    monkeypatch.setattr(selection, "PAIRS_AT_ONCE", 3)
    monkeypatch.setattr(selection, "jaccard", lambda *sets: asked.append(sets) or real(*sets))
    cleaner = Cleaner(RECIPE, now(), b"s" * 32)
    rows = {key: cleaner.clean(key, talk) for key, talk in enumerate(talks)}
    calls = []

    def shingles(keys):
        calls.append(list(keys))
        return {key: rows[key].shingles for key in keys}

    result = select(as_table(list(rows.values())), RECIPE, shingles)
    assert {talks[key].id for key in result.keys} == set(whole[0])
    assert len(calls) == -(-len(asked) // 3) > 1
    assert max(map(len, calls)) <= 6


def test_no_rows_are_an_empty_selection():
    assert selected([]) == ({}, {})


def selected_against(earlier, new, recipe=RECIPE):
    """Return {id: split} of the new rows that stay, the reasons, and the ids that are held."""
    cleaner = Cleaner(recipe, now(), b"s" * 32)
    held = [cleaner.clean(-number, item) for number, (item, _) in enumerate(earlier, start=1)]
    rows = [cleaner.clean(key, item) for key, item in enumerate(new)]
    texts = {row.key: normalise([message["content"] for message in row.messages]) for row in held + rows}
    index = (
        as_table(held).select(COLUMNS).append_column("split", pa.array([side for _, side in earlier], pa.string()))
    )
    result = select(as_table(rows), recipe, lambda keys: {key: shingle_hashes(texts[key]) for key in keys}, index)
    kept = {new[key].id: str(split) for key, split in zip(result.keys, result.splits, strict=True)}
    assert len(kept) + sum(result.dropped.values()) == len(new)
    assert not set(result.duplicates.tolist()) & set(result.earlier.tolist())
    return kept, result.dropped, {new[key].id for key in result.earlier.tolist()}


def test_what_an_earlier_version_holds_exactly_or_nearly_goes_whatever_its_id():
    earlier = [(conversation("z", long_text(1), "x"), "train"), (conversation("y", long_text(2), "x"), "train")]
    new = [
        conversation("a", long_text(1).upper()),
        conversation("b", long_text(2) + " indeed"),
        conversation("c", long_text(3)),
        conversation("d", long_text(3)),
    ]
    kept, dropped, held = selected_against(earlier, new)
    assert (set(kept), held) == ({"c"}, {"a", "b"})
    assert dropped == {DropReason.IN_EARLIER_VERSION: 2, DropReason.EXACT_DUPLICATE: 1}


def test_copies_of_a_row_that_is_held_and_other_states_of_it_are_held_with_it():
    near, short = long_text(1) + " indeed", conversation("a", long_text(4))
    longer = Conversation("a", "u", (*conversation("a", near).turns, Turn("user", "Thanks")), consent=True)
    copy = Conversation("b", "v", longer.turns, consent=True)
    kept, dropped, held = selected_against([(conversation("z", long_text(1)), "train")], [longer, short, copy])
    assert (kept, dropped, held) == ({}, {DropReason.IN_EARLIER_VERSION: 3}, {"a", "b"})


def test_an_id_of_an_earlier_version_may_come_again_with_another_content():
    kept, dropped, _ = selected_against(
        [(conversation("a", long_text(1)), "train")], [conversation("a", long_text(2))]
    )
    assert (kept, dropped) == ({"a": "train"}, {})


def test_a_new_row_takes_the_split_of_its_subject_and_of_what_it_is_alike():
    words = long_text(1).split()
    alike = " ".join(words[:46] + long_text(9).split()[:14])  # about 0.65 in common: no copy, but no stranger
    for side in ("train", "test"):
        earlier = [(conversation("e1", " ".join(words), "x"), side), (conversation("e2", long_text(2), "y"), side)]
        new = [conversation("near", alike, "n"), conversation("same", long_text(3), "y")]
        kept, dropped, _ = selected_against(earlier, new, CurationRecipe(test_share=0.5))
        assert (kept, dropped) == ({"near": side, "same": side}, {})


def test_without_a_row_of_an_earlier_version_the_choice_is_the_same():
    new = [conversation(f"c{n:02d}", long_text(n % 12), user=f"u{n % 7}") for n in range(30)]
    assert selected_against([], new)[:2] == selected(new)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(("train", "test")), min_size=1),
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 9)), max_size=12),
    st.integers(0, 5),
)
def test_nobody_who_is_held_out_earlier_is_trained_on_later_and_no_held_row_stays(sides, drawn, seed):
    earlier = [
        (conversation(user, long_text(place), user), sides[user]) for place, user in enumerate(sorted(sides))
    ]
    new = [conversation(f"n{place}", long_text(text), user) for place, (user, text) in enumerate(drawn)]
    recipe = CurationRecipe(test_share=0.4, split_seed=seed)
    kept, _, held = selected_against(earlier, new, recipe)
    assert held == {f"n{place}" for place, (_, text) in enumerate(drawn) if text < len(earlier)}
    for place, (user, _) in enumerate(drawn):
        if f"n{place}" in kept and user in sides:
            assert kept[f"n{place}"] == sides[user]
