"""Broken encodings are detected; a single lost letter and unusual characters are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongars.curation.filters.encoding import is_broken

FRENCH = (
    "Très bien, merci, et où est la gare, s\u2019il vous plaît ? Elle est fermée après minuit, à côté du café."
)


def misread(text, encoding):
    return text.encode().decode(encoding, "replace")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
@pytest.mark.parametrize(
    "text",
    [
        FRENCH,
        "C\u2019est l\u2019été…",
        "Déjà",
        "“Yes” \u2013 she said \u2013 “it\u2019s fine”",
        "I am so happy 😀👍",
    ],
)
def test_text_decoded_with_the_wrong_encoding_is_broken(text, encoding):
    assert not is_broken(text)
    assert is_broken(misread(text, encoding))


@pytest.mark.parametrize(
    "text",
    [
        "\x00\x00h\x00i\x00",
        "caf\ufffd ferm\ufffd",
        "\ufffd\ufffd\ufffd",
        "\x1b[31mred\x1b[0m and \x07",
        "\x01\x02 ok",
    ],
)
def test_replacement_and_control_characters_break_a_turn(text):
    assert is_broken(text)


@pytest.mark.parametrize(
    "text",
    [
        "I can\ufffdt find it, can you help me with it, please?",
        "That is terrible. \x0bEven citizens voted to rename the garbage dump.",
        "one\ttwo\r\nthree\x85four",
        "NÃO, O CAFÉ… À l\u2019âge de l\u2019ÂGE",
        "Il a mangé…” dit-elle, „zu Fuß“, ça va",
        "Ångström, ÅRHUS, Škoda, Żółć",
        "Добрый день, как дела?",
        "👩‍👩‍👧 👍🏽 ☕️",
        "",
    ],
)
def test_a_lost_letter_and_unusual_letters_do_not_break_a_turn(text):
    assert not is_broken(text)


@given(st.text(st.characters(exclude_categories=["Cc", "Cn", "Cs"], max_codepoint=0xBF), max_size=200))
def test_plain_text_is_never_broken(text):
    assert not is_broken(text)
