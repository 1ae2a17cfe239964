"""Cleaning of single conversations: consent comes first, and every line has an outcome."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta

import pytest

from mongars.curation.cleaning import BAD, CLEAN_SCHEMA, KEPT, Cleaner
from mongars.curation.filters.quality import DropReason
from mongars.curation.recipe import CurationRecipe
from mongars.formats.shards import Shard
from mongars.records import Conversation, Opinion, Profile, Turn

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ANNA = Profile(names=("Anna Moreau",), phones=("514-555-0123",))
GOOD = (
    Turn("user", "Hello, where can I find a good restaurant in the city?"),
    Turn("assistant", "There is one near the station, and it opens at seven."),
)


@pytest.fixture
def cleaner():
    return Cleaner(CurationRecipe(retention_days=30), NOW, b"s" * 32)


def conversation(turns=GOOD, **values):
    return Conversation(
        **{"id": "c1", "user": "anna", "turns": tuple(turns), "consent": True, "profile": ANNA} | values
    )


def test_a_good_conversation_is_kept_whole(cleaner):
    row = cleaner.clean(1, conversation())
    assert (row.outcome, row.id, row.language, row.leaks, row.pii) == (KEPT, "c1", "en", [], [])
    assert [message["content"] for message in row.messages] == [turn.content for turn in GOOD]
    assert "anna" not in row.subject


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"consent": False}, DropReason.NO_CONSENT),
        ({"created_at": NOW - timedelta(days=31)}, DropReason.PAST_RETENTION),
        ({"turns": (Turn("user", ""), GOOD[1])}, DropReason.EMPTY_TURN),
        (
            {
                "turns": (
                    Turn("user", "Wo finde ich ein gutes Restaurant?"),
                    Turn("assistant", "Gleich am Bahnhof."),
                )
            },
            DropReason.OTHER_LANGUAGE,
        ),
    ],
)
def test_a_dropped_conversation_has_a_reason_and_no_text(cleaner, values, reason):
    row = cleaner.clean(1, conversation(**values))
    assert (row.outcome, row.messages, row.id) == (reason, [], "")


def test_a_young_or_undated_conversation_is_within_retention(cleaner):
    assert cleaner.clean(1, conversation(created_at=NOW - timedelta(days=29))).outcome == KEPT
    assert cleaner.clean(1, conversation(created_at=None)).outcome == KEPT


def test_personal_and_known_values_are_replaced_consistently(cleaner):
    said = (
        Turn("user", "I am Anna Moreau, please write to anna@example.com about the table."),
        Turn("assistant", "I will write to anna@example.com, thank you for telling me."),
    )
    row = cleaner.clean(1, conversation(said))
    text = " ".join(message["content"] for message in row.messages)
    assert "Moreau" not in text
    assert "anna@example.com" not in text
    assert sorted(row.pii) == ["EMAIL", "EMAIL", "PERSON"]
    (first, second) = [word.rstrip(",") for word in text.split() if word.startswith("<EMAIL_")]
    assert first == second


def test_known_values_of_one_user_are_not_searched_in_texts_of_another(cleaner):
    said = (*GOOD, Turn("user", "Is Anna Moreau a singer, by the way?"))
    unaided = dataclasses.replace(cleaner, recipe=CurationRecipe(person_names=False))
    assert unaided.clean(1, conversation(said, user="bruno", profile=Profile())).pii == []
    assert unaided.clean(1, conversation(said)).pii == ["PERSON"]


def test_a_user_id_that_is_an_address_is_a_known_value(cleaner):
    said = (*GOOD, Turn("user", "Write to anna.moreau at home dot example, would you?"))
    row = cleaner.clean(1, conversation(said, user="anna.moreau@home.example"))
    assert row.pii == ["EMAIL"]
    assert cleaner.clean(1, conversation(said, user="bruno", profile=Profile())).pii == []


def test_unknown_names_are_found_unless_the_tagger_is_switched_off(cleaner):
    said = (*GOOD, Turn("user", "My name is Patricia Johnson and I need help with it."))
    unaided = dataclasses.replace(cleaner, recipe=CurationRecipe(person_names=False))
    assert (cleaner.clean(1, conversation(said)).pii, unaided.clean(1, conversation(said)).pii) == (["PERSON"], [])


def test_a_known_value_that_the_detectors_missed_is_a_leak(cleaner, monkeypatch):
    monkeypatch.setattr("mongars.curation.cleaning.find_pii", lambda *_: [])
    said = (*GOOD, Turn("user", "I am Anna Moreau, write to anna@example.com please."))
    assert cleaner.clean(1, conversation(said)).leaks == ["EMAIL", "KNOWN"]


def test_every_line_of_a_shard_has_an_outcome(cleaner, tmp_path):
    path = tmp_path / "in.jsonl"
    messages = [{"role": turn.role, "content": turn.content} for turn in GOOD]
    lines = [json.dumps({"id": f"c{n}", "messages": messages}) for n in range(300)]
    lines[7] = "not json"
    lines[9] = ""
    path.write_text("\n".join(lines))
    tables = list(cleaner.clean_items(Shard(str(path), 2, 0, 1).conversations()))
    assert all(table.schema.equals(CLEAN_SCHEMA) for table in tables)
    outcomes = [outcome for table in tables for outcome in table["outcome"].to_pylist()]
    assert (outcomes.count(KEPT), outcomes.count(BAD), len(outcomes)) == (298, 1, 299)


def test_a_cleaner_does_not_show_its_secret(cleaner):
    assert "ssss" not in repr(cleaner)


def test_opinions_are_redacted_like_turns_and_bad_ones_dropped(cleaner):
    turns = (Turn("user", "Hello, what is the address of Anna Moreau in the city?"), GOOD[1])
    opinions = (
        Opinion(turns[0].content, "Write to anna.moreau@example.com for it.", True),
        Opinion(turns[0].content, GOOD[1].content, False),
        Opinion(turns[0].content, " ", True),
    )
    row = cleaner.clean(1, conversation(turns, opinions=opinions))
    assert row.outcome == KEPT
    (good, bad) = row.opinions
    assert good["query"] == bad["query"] == row.messages[0]["content"]
    assert "Moreau" not in good["query"]
    assert good["text"].startswith("Write to <EMAIL_")
    assert (good["good"], bad["good"], bad["text"]) == (True, False, GOOD[1].content)
    assert sorted(row.pii) == ["EMAIL", "PERSON"]
    assert len(cleaner.clean(1, conversation(turns)).opinions) == 0


def test_a_leak_in_an_opinion_is_found(cleaner, monkeypatch):
    monkeypatch.setattr("mongars.curation.cleaning.find_pii", lambda *_: [])
    row = cleaner.clean(1, conversation(opinions=(Opinion(GOOD[0].content, "It is 4242 4242 4242 4242.", True),)))
    assert row.leaks == ["CARD"]
