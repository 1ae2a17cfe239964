"""Values that the words around them make personal, in English and French."""

import pytest


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("What is your date of birth? It's 3/23/1940", "BIRTH_DATE", "3/23/1940"),
        ("I was born on 4 March 1990 in Lyon", "BIRTH_DATE", "4 March 1990"),
        ("my birthday is March 3rd", "BIRTH_DATE", "March 3rd"),
        ("née le 14 juillet 1982", "BIRTH_DATE", "14 juillet 1982"),
        ("Date de naissance : 14/07/1982", "BIRTH_DATE", "14/07/1982"),
        (
            "I live at 12 Main Street, apt 4, Springfield, IL 62704.",
            "ADDRESS",
            "12 Main Street, apt 4, Springfield, IL 62704",
        ),
        ("my address is 221b Baker St", "ADDRESS", "221b Baker St"),
        ("Ship it to 99 Old Mill Road, please", "ADDRESS", "99 Old Mill Road"),
        ("J'habite au 8 bis, rue des Lilas, 75011 Paris", "ADDRESS", "8 bis, rue des Lilas, 75011 Paris"),
        ("my username is anna_m", "HANDLE", "anna_m"),
        ("insta: anna.moreau", "HANDLE", "anna.moreau"),
        ("ask @annam about it", "HANDLE", "@annam"),
    ],
)
def test_a_value_is_found_in_a_personal_context(found, text, kind, value):
    assert found(text)[0] == (kind, value)
    assert len(found(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "We meet on 3/23/2026, and the shop was built on 4 March 1990.",
        "The museum is at 12 Main Street.",
        "I moved to 3 different towns and live at home",
        "the username is wrong, meet @ noon",
        "@property\n@dataclass(frozen=True)",
    ],
)
def test_public_dates_and_places_and_code_are_ignored(found, text):
    assert found(text) == []
