"""The leak check: finds what a faulty detector would miss, and nothing in a redacted text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongars.curation.pii import find_pii, leak_check, redact
from mongars.curation.pii.leak_check import leaks
from mongars.curation.pii.pseudonyms import Pseudonyms

VALUES = {
    "EMAIL": "anna@example.com",
    "CARD": "4242 4242 4242 4242",
    "IBAN": "GB29NWBK60161331926819",
    "SSN": "455-99-6622",
    "PHONE": "(514) 555-0123",
    "NATID": "1 51 02 46 102 043 25",
    "SECRET": "AKIAABCDEFGHIJKLMNOP",
    "IP": "203.0.113.7",
}
KNOWN_VALUES = ("Élodie Moreau", "+33 6 12 34 56 78", "elodie@home.example", "Will")


@pytest.mark.parametrize(("kind", "value"), VALUES.items())
def test_a_remaining_value_is_a_leak(kind, value):
    assert leaks(f"so it is {value}.") == [kind]


@pytest.mark.parametrize("value", ["+33 6 12 34 56 78", "06 12 34 56 78", "0612345678", "+1 514-555-0123"])
def test_a_french_or_foreign_phone_number_is_a_leak(value):
    assert leaks(f"so it is {value}, thanks") == ["PHONE"]


@pytest.mark.parametrize("text", ["I am ELODIE  MOREAU", "it is will", "call 0033612345678", "33 6.12.34.56.78"])
def test_a_remaining_known_value_is_a_leak(text):
    assert "KNOWN" in leaks(text, KNOWN_VALUES)
    assert "KNOWN" not in leaks(text)


@pytest.mark.parametrize("text", ["goodwill", "Moreau, 612345678", "an elodie"])
def test_a_part_of_a_known_value_is_not_a_leak(text):
    assert "KNOWN" not in leaks(text, KNOWN_VALUES)


@pytest.mark.parametrize("text", ["", "at 7 @ noon", "4242 4242 4242 4241", "<CARD_4242> 2025-03-07", "SE45 000"])
def test_ordinary_text_and_tags_are_not_leaks(text):
    assert leaks(text) == []


@given(
    st.lists(
        st.sampled_from([*VALUES.values(), *KNOWN_VALUES, "x", "-", ".", "1"]) | st.text(max_size=5), max_size=6
    )
)
def test_a_redacted_text_has_no_leaks(pieces):
    text = " ".join(pieces)
    clean = redact(text, find_pii(text, KNOWN_VALUES), Pseudonyms(b"s" * 32, "sub_1"))
    assert leaks(clean, KNOWN_VALUES) == []


@pytest.mark.parametrize("shape", ["_CARD", "_SSN", "_PHONE", "_ABROAD", "_FRENCH_PHONE", "_NIR"])
@given(data=st.data())
def test_every_number_passes_the_prefilter(shape, data):
    written = data.draw(st.from_regex(getattr(leak_check, shape)))
    assert leak_check._SEPARATED.search(written)


@given(st.from_regex(leak_check._KEY))
def test_every_key_passes_the_prefilter(written):
    assert any(cue in written for cue in leak_check._KEY_CUES)
