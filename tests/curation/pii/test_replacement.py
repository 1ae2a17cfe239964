"""Replacement of personal data in three modes."""

import pytest

from mongars.curation.pii import Mode, find_pii, replace
from mongars.curation.pii.pseudonyms import Pseudonyms

TEXT = "Mail anna@example.com or ANNA@example.com, call 408-247-8880."
PSEUDONYMS = Pseudonyms(b"s" * 32, "sub_1")


def test_a_tag_has_only_the_type():
    assert replace(TEXT, find_pii(TEXT), Mode.TAG, PSEUDONYMS) == "Mail <EMAIL> or <EMAIL>, call <PHONE>."


def test_a_mask_has_only_the_length_of_the_value():
    masked = replace(TEXT, find_pii(TEXT), Mode.MASK, PSEUDONYMS)
    assert len(masked) == len(TEXT)
    assert masked.startswith("Mail ████")
    assert not any(char.isdigit() or char == "@" for char in masked)


def test_equal_values_have_equal_pseudonyms():
    words = replace(TEXT, find_pii(TEXT), Mode.PSEUDONYM, PSEUDONYMS).replace(",", "").split()
    assert words[1] == words[3]
    assert words[1].startswith("<EMAIL_")


@pytest.mark.parametrize("mode", list(Mode))
def test_replaced_text_has_no_personal_data(mode):
    assert find_pii(replace(TEXT, find_pii(TEXT), mode, PSEUDONYMS)) == []
