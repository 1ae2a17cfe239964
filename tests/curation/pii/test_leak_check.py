"""The second look: sees what a faulty detector would leave, and nothing in a redacted text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongars.curation.pii import find_pii, redact
from mongars.curation.pii import leak_check as second_look
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
def test_a_value_that_was_left_is_seen(kind, value):
    assert leaks(f"so it is {value}.") == [kind]


@pytest.mark.parametrize("value", ["+33 6 12 34 56 78", "06 12 34 56 78", "0612345678", "+1 514-555-0123"])
def test_a_phone_number_abroad_or_in_france_is_seen(value):
    assert leaks(f"so it is {value}, thanks") == ["PHONE"]


@pytest.mark.parametrize("text", ["I am ELODIE  MOREAU", "it is will", "call 0033612345678", "33 6.12.34.56.78"])
def test_a_known_value_that_was_left_is_seen(text):
    assert "KNOWN" in leaks(text, KNOWN_VALUES)
    assert "KNOWN" not in leaks(text)


@pytest.mark.parametrize("text", ["goodwill", "Moreau, 612345678", "an elodie"])
def test_a_part_of_a_known_value_is_no_leak(text):
    assert "KNOWN" not in leaks(text, KNOWN_VALUES)


@pytest.mark.parametrize("text", ["", "at 7 @ noon", "4242 4242 4242 4241", "<CARD_4242> 2025-03-07", "SE45 000"])
def test_ordinary_text_and_tags_are_no_leak(text):
    assert leaks(text) == []


@given(
    st.lists(
        st.sampled_from([*VALUES.values(), *KNOWN_VALUES, "x", "-", ".", "1"]) | st.text(max_size=5), max_size=6
    )
)
def test_nothing_leaks_from_a_redacted_text(pieces):
    text = " ".join(pieces)
    clean = redact(text, find_pii(text, KNOWN_VALUES), Pseudonyms(b"s" * 32, "sub_1"))
    assert leaks(clean, KNOWN_VALUES) == []


@pytest.mark.parametrize("shape", ["_CARD", "_SSN", "_PHONE", "_ABROAD", "_FRENCH_PHONE", "_NIR"])
@given(data=st.data())
def test_every_number_with_a_shape_passes_the_sieve_before_the_shapes(shape, data):
    written = data.draw(st.from_regex(getattr(second_look, shape)))
    assert second_look._SEPARATED.search(written)


@given(st.from_regex(second_look._KEY))
def test_every_key_passes_the_sieve_before_its_shape(written):
    assert any(cue in written for cue in second_look._KEY_CUES)
