"""Personal data in texts: found once, with its type, and gone after redaction."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongars.curation.pii import PiiType, find_pii, redact
from mongars.curation.pii.pseudonyms import TAG, Pseudonyms

PSEUDONYMS = Pseudonyms(b"s" * 32, "sub_1")

FOUND = [
    ("Write to anna.moreau+x@example.co.uk, please.", PiiType.EMAIL, "anna.moreau+x@example.co.uk"),
    ("Call (514) 555-0123 tonight", PiiType.PHONE, "(514) 555-0123"),
    ("It is +33 1 42 68 53 00.", PiiType.PHONE, "+33 1 42 68 53 00"),
    ("Their phone number is 408-247-8880.", PiiType.PHONE, "408-247-8880"),
    ("my mobile: 785 8949", PiiType.PHONE, "785 8949"),
    ("Charge 4242 4242 4242 4242 now", PiiType.CARD, "4242 4242 4242 4242"),
    ("Charge 3782 822463 10005 now", PiiType.CARD, "3782 822463 10005"),
    ("To GB29 NWBK 6016 1331 9268 19 thanks", PiiType.IBAN, "GB29 NWBK 6016 1331 9268 19"),
    ("My SSN is 455-99-6622.", PiiType.SSN, "455-99-6622"),
    ("The device at 203.0.113.7 fails", PiiType.IP, "203.0.113.7"),
    ("see 2001:db8:85a3::8a2e:370:7334", PiiType.IP, "2001:db8:85a3::8a2e:370:7334"),
    (
        "git clone https://me:hunter2@git.example.com/x",
        PiiType.URL_CREDENTIALS,
        "https://me:hunter2@git.example.com/x",
    ),
    ("open https://example.com/a?token=abc123 now", PiiType.URL_CREDENTIALS, "https://example.com/a?token=abc123"),
    ("use sk-abcdefghijklmnop1234 here", PiiType.SECRET, "sk-abcdefghijklmnop1234"),
    ("my password is tr0ub4dor&3", PiiType.SECRET, "tr0ub4dor&3"),
]


@pytest.mark.parametrize(("text", "kind", "value"), FOUND)
def test_personal_data_is_found_with_its_type_and_place(text, kind, value):
    (span,) = find_pii(text)
    assert (span.type, text[span.start : span.end]) == (kind, value)


@pytest.mark.parametrize(
    "text",
    [
        "Book a table for 12 at 19:30 on 2025-03-07, about 120 euros.",
        "My password is wrong, and the secret is to stir.",
        "Version 10.15.7.1.2 came after 10.15.",
        "std::vector and a::b are not addresses",
        "We met @ the cafe at noon",
        "Order 1234567890123456 has not arrived",  # sixteen digits that fail the checksum
        "<EMAIL_3f2a> wrote to <PHONE_0123>",
    ],
)
def test_ordinary_text_has_no_personal_data(text):
    assert find_pii(text) == []


def test_two_cards_side_by_side_are_two_cards():
    spans = find_pii("4242 4242 4242 4242 5555 5555 5555 4444")
    assert [span.type for span in spans] == [PiiType.CARD, PiiType.CARD]


@pytest.mark.parametrize(
    "text",
    [
        "I am ANNA   moreau",
        "Anna here",
        "this is Moreau",
        "dial 5145550123",
        "dial 514.555.0123",
        "Anna@Home.Example",
    ],
)
def test_a_known_value_is_found_in_any_form(text):
    assert find_pii(text, known=("Anna Moreau", "(514) 555-0123", "anna@home.example"))


def test_a_name_that_is_also_a_word_matches_only_the_name():
    text = "Will you say how long Will Long is here, or will he go?"
    assert [text[s.start : s.end] for s in find_pii(text, known=("Will Long",))] == ["Will", "Will Long"]


def test_equal_values_have_equal_tags_for_one_person_only():
    text = "Mail anna@example.com or ANNA@example.com"
    first, second = TAG.findall(redact(text, find_pii(text), PSEUDONYMS))
    assert first == second
    other = redact(text, find_pii(text), Pseudonyms(b"s" * 32, "sub_2"))
    assert first not in other


pieces = (
    st.sampled_from([value for _, _, value in FOUND]) | st.text(max_size=12) | st.sampled_from(" -.@:/x1,+(\n")
)
texts = st.lists(pieces, max_size=8).map("".join)
names = st.lists(st.sampled_from(["Anna Moreau", "Will Long", "a@b.c", "555 0123 44", "é", "x"]), max_size=3)


@given(texts, names)
def test_spans_are_in_order_within_the_text_and_do_not_overlap(text, known):
    spans = find_pii(text, known)
    places = [place for span in spans for place in (span.start, span.end)]
    assert places == sorted(places)
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert all(0 < span.score <= 1 for span in spans)


@given(texts, names)
def test_redaction_removes_all_personal_data_and_keeps_the_rest(text, known):
    spans = find_pii(text, known)
    clean = redact(text, spans, PSEUDONYMS)
    assert find_pii(clean, known) == []
    rest, end = "", 0
    for span in spans:
        rest += text[end : span.start]
        end = span.end
    assert len(clean) == len(rest + text[end:]) + sum(
        len(PSEUDONYMS.tag(s.type, text[s.start : s.end])) for s in spans
    )


PIECES = [
    "a",
    "1 ",
    "a.",
    "@a.",
    "1-",
    ":a",
    "http://",
    "a1:",
    "AB12",
    "@a",
    "555-0100 ",
    "née 1 ",
    "12 ",
    "1.1.1.1 ",
]


@pytest.mark.parametrize("piece", PIECES)
def test_eight_times_the_text_does_not_take_the_square_of_the_time(piece):
    """Compare CPU times, as `re` counts no steps: a factor of 8 is linear, 64 quadratic."""
    short, long = (
        min(_cpu_seconds(piece * (length // len(piece))) for _ in range(3)) for length in (4_000, 32_000)
    )
    assert long < 24 * max(short, 0.001)


def _cpu_seconds(text):
    started = time.process_time()
    find_pii(text)
    return time.process_time() - started
