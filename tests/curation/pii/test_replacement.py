"""A text without its personal data, in three forms."""

import pytest

from mongars.curation.pii import Mode, find_pii, replace
from mongars.curation.pii.pseudonyms import Pseudonyms

TEXT = "Mail anna@example.com or ANNA@example.com, call 408-247-8880."
PSEUDONYMS = Pseudonyms(b"s" * 32, "sub_1")


def test_a_tag_says_the_type_alone():
    assert replace(TEXT, find_pii(TEXT), Mode.TAG, PSEUDONYMS) == "Mail <EMAIL> or <EMAIL>, call <PHONE>."


def test_a_mask_is_as_long_as_the_value_and_says_nothing():
    masked = replace(TEXT, find_pii(TEXT), Mode.MASK, PSEUDONYMS)
    assert len(masked) == len(TEXT)
    assert masked.startswith("Mail ████")
    assert not any(char.isdigit() or char == "@" for char in masked)


def test_a_pseudonym_is_the_same_for_the_same_value():
    words = replace(TEXT, find_pii(TEXT), Mode.PSEUDONYM, PSEUDONYMS).replace(",", "").split()
    assert words[1] == words[3]
    assert words[1].startswith("<EMAIL_")


@pytest.mark.parametrize("mode", list(Mode))
def test_nothing_is_found_in_what_was_replaced(mode):
    assert find_pii(replace(TEXT, find_pii(TEXT), mode, PSEUDONYMS)) == []
