"""The second look: sees what a faulty detector would leave, and nothing in a redacted text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongars.curation.leaks import leaks
from mongars.curation.pii import find_pii, redact
from mongars.curation.pseudonyms import Pseudonyms

VALUES = {
    "EMAIL": "anna@example.com",
    "CARD": "4242 4242 4242 4242",
    "IBAN": "GB29NWBK60161331926819",
    "SSN": "455-99-6622",
    "PHONE": "(514) 555-0123",
}


@pytest.mark.parametrize(("kind", "value"), VALUES.items())
def test_a_value_that_was_left_is_seen(kind, value):
    assert leaks(f"so it is {value}.") == [kind]


@pytest.mark.parametrize("text", ["", "at 7 @ noon", "4242 4242 4242 4241", "<CARD_4242> 2025-03-07", "SE45 000"])
def test_ordinary_text_and_tags_are_no_leak(text):
    assert leaks(text) == []


@given(st.lists(st.sampled_from([*VALUES.values(), "x", "-", ".", "1"]) | st.text(max_size=5), max_size=6))
def test_nothing_leaks_from_a_redacted_text(pieces):
    text = " ".join(pieces)
    assert leaks(redact(text, find_pii(text), Pseudonyms(b"s" * 32, "sub_1"))) == []
