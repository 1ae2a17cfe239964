"""The shipped tagger: finds plain names, never fails on a text, and is refused when it is damaged."""

import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongars.curation.pii import find_pii
from mongars.curation.pii.person_names import FOLDER, WEIGHTS, PersonTagger, load_tagger
from mongars.errors import InputError


def names(text):
    return [text[span.start : span.end] for span in load_tagger().find(text)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("My name is Patricia Johnson and I need help.", "Patricia Johnson"),
        ("Hello, this is Michael speaking.", "Michael"),
        ("Je m'appelle Camille Tremblay.", "Camille Tremblay"),
        ("I read Jessica's book", "Jessica"),
    ],
)
def test_a_plain_name_is_found_whole_and_without_its_possessive(text, name):
    assert names(text) == [name]


@pytest.mark.parametrize(
    "text", ["", "Find me a Thai restaurant in London on Monday.", "what a good day", "J'habite à Montreal."]
)
def test_other_capitals_are_no_names(text):
    assert names(text) == []


def test_a_name_that_was_known_or_part_of_an_address_is_not_found_twice():
    text = "I am Patricia Johnson, patricia.johnson@example.com"
    kinds = [str(span.type) for span in find_pii(text, (), load_tagger().find)]
    assert kinds == ["PERSON", "EMAIL"]


@given(
    st.text(max_size=40) | st.lists(st.sampled_from(["Anna", "B.", "Lee", " ", "\n", "'s", "é", "1"])).map("".join)
)
def test_spans_lie_in_any_text_in_order_without_overlap(text):
    spans = list(load_tagger().find(text))
    places = [place for span in spans for place in (span.start, span.end)]
    assert places == sorted(places)
    assert all(span.start < span.end <= len(text) and 0 < span.score <= 1 for span in spans)


def test_a_damaged_tagger_is_refused_with_a_remedy(tmp_path):
    with pytest.raises(InputError, match="train_name_tagger"):
        load_tagger(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"no tensors")
    with pytest.raises(InputError):
        load_tagger(tmp_path)


def test_a_tagger_of_other_features_is_refused(tmp_path, monkeypatch):
    shutil.copy(FOLDER / WEIGHTS, tmp_path)
    monkeypatch.setattr("mongars.curation.pii.person_names.FEATURES", -1)
    with pytest.raises(InputError, match="other features"):
        load_tagger(tmp_path)


def test_what_is_shipped_is_small_and_has_its_card():
    assert (FOLDER / WEIGHTS).stat().st_size < 2_000_000
    card = (FOLDER / "README.md").read_text()
    assert "CC BY 4.0" in card
    assert f"threshold, {load_tagger().threshold}," in card


def test_nothing_is_found_without_weight():
    assert list(PersonTagger([-1.0] * (1 << 16), 0.5).find("Patricia Johnson")) == []
