"""Which rows are kept: one of each group of duplicates, the same one whatever the order."""

import random

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mongars.curation.cleaning import Cleaner, as_table
from mongars.curation.dedup import selection
from mongars.curation.dedup.minhash import normalise, shingle_hashes
from mongars.curation.dedup.selection import COLUMNS, PriorRows, select
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
    """Return {id: split} of the rows kept, and the reasons of the others."""
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


def test_the_smallest_id_of_exact_copies_is_kept():
    kept, dropped = selected([conversation("b", OPENINGS[0]), conversation("a", OPENINGS[0] + " ", user="v")])
    assert set(kept) == {"a"}
    assert dropped == {DropReason.EXACT_DUPLICATE: 1}


def test_the_smallest_id_of_near_copies_is_kept_and_other_rows_too():
    text = long_text(1)
    conversations = [
        conversation("b", text),
        conversation("a", text + " indeed", "v"),
        conversation("c", long_text(2)),
    ]
    kept, dropped = selected(conversations)
    assert set(kept) == {"a", "c"}
    assert dropped == {DropReason.NEAR_DUPLICATE: 1}


def test_the_longest_conversation_of_one_id_is_kept():
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


def test_no_user_is_on_both_sides_of_the_split():
    recipe = CurationRecipe(test_share=0.4)
    conversations = [conversation(f"c{n}", long_text(n), user=f"u{n % 10}") for n in range(60)]
    kept, _ = selected(conversations, recipe)
    sides = {
        item.user: {kept[other.id] for other in conversations if other.user == item.user} for item in conversations
    }
    assert all(len(side) == 1 for side in sides.values())
    assert len(set(kept.values())) == 2


def test_shingles_are_loaded_for_few_pairs_at_a_time_without_changing_the_choice(monkeypatch):
    texts = [long_text(seed) for seed in range(4)]
    talks = [conversation(f"c{n}", f"{texts[n % 4]} the end {n}", user=f"u{n}") for n in range(16)]
    whole = selected(talks)
    compared = []
    real = selection.jaccard
    monkeypatch.setattr(selection, "PAIRS_AT_ONCE", 3)
    monkeypatch.setattr(selection, "jaccard", lambda *sets: compared.append(sets) or real(*sets))
    cleaner = Cleaner(RECIPE, now(), b"s" * 32)
    rows = {key: cleaner.clean(key, talk) for key, talk in enumerate(talks)}
    calls = []

    def shingles(keys):
        calls.append(list(keys))
        return {key: rows[key].shingles for key in keys}

    result = select(as_table(list(rows.values())), RECIPE, shingles)
    assert {talks[key].id for key in result.keys} == set(whole[0])
    assert len(calls) == -(-len(compared) // 3) > 1
    assert max(map(len, calls)) <= 6


def test_no_rows_are_an_empty_selection():
    assert selected([]) == ({}, {})


def selected_against(prior, new, recipe=RECIPE):
    """Return {id: split} of the new rows that are kept, the reasons, and the ids that prior versions have."""
    cleaner = Cleaner(recipe, now(), b"s" * 32)
    known = [cleaner.clean(key, item) for key, (item, _) in enumerate(prior)]
    rows = [cleaner.clean(key, item) for key, item in enumerate(new)]  # keys of both begin with 0
    splits = pa.array([side for _, side in prior], pa.string())
    index = as_table(known).select(COLUMNS).append_column("split", splits)
    prior_rows = PriorRows(index, lambda keys: {key: known[key].shingles for key in keys})
    result = select(as_table(rows), recipe, lambda keys: {key: rows[key].shingles for key in keys}, prior_rows)
    kept = {new[key].id: str(split) for key, split in zip(result.keys, result.splits, strict=True)}
    assert len(kept) + sum(result.dropped.values()) == len(new)
    assert not set(result.duplicates.tolist()) & set(result.in_prior.tolist())
    return kept, result.dropped, {new[key].id for key in result.in_prior.tolist()}


def test_copies_of_prior_rows_are_dropped_whatever_their_id():
    prior = [(conversation("z", long_text(1), "x"), "train"), (conversation("y", long_text(2), "x"), "train")]
    new = [
        conversation("a", long_text(1).upper()),
        conversation("b", long_text(2) + " indeed"),
        conversation("c", long_text(3)),
        conversation("d", long_text(3)),
    ]
    kept, dropped, in_prior = selected_against(prior, new)
    assert (set(kept), in_prior) == ({"c"}, {"a", "b"})
    assert dropped == {DropReason.IN_PRIOR_VERSION: 2, DropReason.EXACT_DUPLICATE: 1}


def test_duplicates_of_a_row_that_repeats_a_prior_one_count_as_prior_too():
    near, short = long_text(1) + " indeed", conversation("a", long_text(4))
    longer = Conversation("a", "u", (*conversation("a", near).turns, Turn("user", "Thanks")), consent=True)
    copy = Conversation("b", "v", longer.turns, consent=True)
    kept, dropped, in_prior = selected_against([(conversation("z", long_text(1)), "train")], [longer, short, copy])
    assert (kept, dropped, in_prior) == ({}, {DropReason.IN_PRIOR_VERSION: 3}, {"a", "b"})


def test_a_new_row_may_have_the_id_of_a_prior_one_with_other_content():
    kept, dropped, _ = selected_against(
        [(conversation("a", long_text(1)), "train")], [conversation("a", long_text(2))]
    )
    assert (kept, dropped) == ({"a": "train"}, {})


def test_a_new_row_takes_the_split_of_its_subject_and_of_similar_prior_rows():
    words = long_text(1).split()
    similar = " ".join(words[:46] + long_text(9).split()[:14])  # Jaccard about 0.65: similar, but no copy
    for side in ("train", "test"):
        prior = [(conversation("e1", " ".join(words), "x"), side), (conversation("e2", long_text(2), "y"), side)]
        new = [conversation("near", similar, "n"), conversation("same", long_text(3), "y")]
        kept, dropped, _ = selected_against(prior, new, CurationRecipe(test_share=0.5))
        assert (kept, dropped) == ({"near": side, "same": side}, {})


def test_an_empty_prior_version_changes_nothing():
    new = [conversation(f"c{n:02d}", long_text(n % 12), user=f"u{n % 7}") for n in range(30)]
    assert selected_against([], new)[:2] == selected(new)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(("train", "test")), min_size=1),
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 9)), max_size=12),
    st.integers(0, 5),
)
def test_a_held_out_subject_stays_held_out_and_no_prior_row_is_kept(sides, drawn, seed):
    prior = [(conversation(user, long_text(place), user), sides[user]) for place, user in enumerate(sorted(sides))]
    new = [conversation(f"n{place}", long_text(text), user) for place, (user, text) in enumerate(drawn)]
    recipe = CurationRecipe(test_share=0.4, split_seed=seed)
    kept, _, in_prior = selected_against(prior, new, recipe)
    assert in_prior == {f"n{place}" for place, (_, text) in enumerate(drawn) if text < len(prior)}
    for place, (user, _) in enumerate(drawn):
        if f"n{place}" in kept and user in sides:
            assert kept[f"n{place}"] == sides[user]
