"""The vote on a conversation's language."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mongars.curation.filters.language import MAX_VOTES, OTHER, UNDETERMINED, check_languages, detect_language
from mongars.errors import SettingsError

EN = "Where can I find a good restaurant near the station?"
FR = "Où puis-je trouver un bon restaurant près de la gare ?"
# "Where is the train", in letters that none of the detector's languages has.
HEBREW = "\u05d0\u05d9\u05e4\u05d4 \u05d4\u05e8\u05db\u05d1\u05ea " * 4
DE = "Wo finde ich hier in der Nähe ein gutes Restaurant?"


@pytest.mark.parametrize(
    ("texts", "language"),
    [
        ([EN, "OK"], "en"),
        ([FR, "Merci"], "fr"),
        ([EN, EN, FR], "en"),
        ([DE, DE], "de"),
        (["OK", "2", "Paris"], UNDETERMINED),
        ([], UNDETERMINED),
        ([HEBREW], OTHER),
        (["Find me a concert in Los Angeles."], "en"),  # Spanish to the fast detector, with low confidence
    ],
)
def test_the_turns_vote_and_short_ones_abstain(texts, language):
    assert detect_language(texts, ("en", "fr")) == language


@settings(max_examples=40)
@given(st.lists(st.sampled_from([EN, FR, DE, HEBREW, EN[:30], FR + " " + FR, "OK"]), max_size=2 * MAX_VOTES))
def test_stopping_a_vote_early_does_not_change_its_result(texts):
    votes = Counter()
    for text in [text for text in texts if text != "OK"][:MAX_VOTES]:
        votes[detect_language([text], ("en", "fr"))] += sum(map(str.isalpha, text))
    expected = min(votes, key=lambda code: (-votes[code], code)) if votes else UNDETERMINED
    assert detect_language(texts, ("en", "fr")) == expected


def test_an_unknown_code_is_refused():
    with pytest.raises(SettingsError, match="ISO 639-1"):
        check_languages(["xx"])
