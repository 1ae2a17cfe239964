"""Phone numbers: by form, by numbering plan, or by the words around them."""

import pytest


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("+33 1 42 68 53 00", "+33 1 42 68 53 00"),
        ("01 42 68 53 00 ce soir", "01 42 68 53 00"),
        ("(978)645-9740x11144 mobile", "(978)645-9740x11144"),
        ("dial 4082478880.", "4082478880"),
        ("so 4082478880", "4082478880"),
        ("et 0142685300", "0142685300"),
        ("so +41446681800", "+41446681800"),
        ("22 498317 office", "22 498317"),
        ("Their number is 20 7071 5029.", "20 7071 5029"),
        ("on me joint ou appelle au 418 55 66", "418 55 66"),
        ("(35) 609-270", "(35) 609-270"),
    ],
)
def test_a_phone_number_is_found_whole(found, text, value):
    assert found(text) == [("PHONE", value)]


@pytest.mark.parametrize(
    "text",
    [
        "on 1993-01-04 14:56:41 it rang",
        "order 1112223334 of $4082478880 and 4082478880%",
        "call a taxi to 03 2657 Koontz Lane",
        "at 01 4589 40th Street",
        "I called 12 times in 2023",
        "4082478880123456 and 408247888012.5",
    ],
)
def test_dates_amounts_and_streets_are_not_phone_numbers(found, text):
    assert found(text) == []
