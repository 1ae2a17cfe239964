"""Known values are found in every form, and ordinary words are not."""

import pytest

from mongars.curation.pii import find_pii

KNOWN = ("Élodie Moreau-Roy", "(514) 555-0123", "elodie.moreau@home.example", "Will Long")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("I am ÉLODIE   moreau-roy", "ÉLODIE   moreau-roy"),
        ("c'est elodie moreau-roy", "elodie moreau-roy"),
        ("Moreau-Roy, Élodie", "Moreau-Roy, Élodie"),
        ("signed É. Moreau-Roy", "É. Moreau-Roy"),
        ("as elodiemoreau-roy there", "elodiemoreau-roy"),
        ("Elodie here", "Elodie"),
        ("dear ÉLODIE", "ÉLODIE"),
        ("dial 5145550123", "5145550123"),
        ("dial +1 514 555 01 23", "+1 514 555 01 23"),
        ("it ends 514/555/0123", "514/555/0123"),
        ("at elodie.moreau at home dot example", "elodie.moreau at home dot example"),
        ("ELODIE.MOREAU@HOME.EXAMPLE", "ELODIE.MOREAU@HOME.EXAMPLE"),
        ("my nick is elodie.moreau", "elodie.moreau"),
    ],
)
def test_a_known_value_is_found_in_every_form(text, value):
    assert value in [text[span.start : span.end] for span in find_pii(text, KNOWN)]


def test_a_french_number_is_found_with_and_without_its_country_code():
    for text in ("06 12 34 56 78", "+33 6 12 34 56 78", "0033612345678", "0612345678", "6/12/34/56/78"):
        (span,) = find_pii(f"#x {text}", ("+33 612345678",))
        assert (span.start, span.end) == (3, 3 + len(text))


@pytest.mark.parametrize("text", ["will you stay long", "how long will it be", "a long will", "an elodie"])
def test_words_that_are_also_names_are_ignored(text):
    assert find_pii(text, KNOWN) == []
