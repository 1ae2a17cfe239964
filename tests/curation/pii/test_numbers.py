"""Numbers with checksums: one wrong digit and they are not found."""

import pytest

NATIONAL = [
    "123 456 782",
    "1 51 02 46102 043 25",
    "AB 12 34 56 C",
    "85.07.30-033.28",
    "756.9217.0769.85",
    "390.533.447-05",
    "RCCMNL83S18D969H",
    "54362315K",
    "X-2482300W",
    "131052-308T",
    "880320-0016",
]


@pytest.mark.parametrize("number", NATIONAL)
def test_a_national_number_with_a_valid_check_is_found(found, number):
    assert found(f"so it is {number}.") == [("NATIONAL_ID", number)]


@pytest.mark.parametrize(
    "number",
    ["123 456 783", "1 51 02 46102 043 26", "BG 12 34 56 C", "756.9217.0769.84", "54362315L", "390.533.447-06"],
)
def test_a_national_number_with_an_invalid_check_is_ignored(found, number):
    assert found(f"so it is {number}.") == []


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("my SSN: 900-12-3456", "SSN", "900-12-3456"),
        ("social security number is 123 45 6789", "SSN", "123 45 6789"),
        ("mon NAS est 123456789", "NATIONAL_ID", "123456789"),
        ("My driver's license number is A1234567", "DOCUMENT", "A1234567"),
        ("Passeport numéro 12AB34567", "DOCUMENT", "12AB34567"),
        ("permis de conduire : 123456789012", "DOCUMENT", "123456789012"),
    ],
)
def test_a_number_that_the_text_names_needs_no_valid_check(found, text, kind, value):
    assert found(text) == [(kind, value)]


@pytest.mark.parametrize(
    "text", ["Suite 680 36 4022 Oakridge", "000-12-3456", "I passed 12345678 cars", "card 12345"]
)
def test_other_numbers_are_ignored(found, text):
    assert found(text) == []


def test_words_after_an_iban_are_not_part_of_it(found):
    assert found("To GB29 NWBK 6016 1331 9268 19 thanks a lot") == [("IBAN", "GB29 NWBK 6016 1331 9268 19")]
    assert found("To GB29 NWBK 6016 1331 9268 18 thanks a lot") == []


def test_a_card_must_pass_luhns_sum(found):
    assert found("4242 4242 4242 4242") == [("CARD", "4242 4242 4242 4242")]
    assert found("4242 4242 4242 4241") == []
