"""Text that is not prose is dropped; text about the same things is kept."""

import base64
import random

import pytest

from mongars.curation.filters.non_prose import is_encoded, is_filler, is_links, is_markup, is_mashed
from mongars.curation.filters.quality import DropReason, judge_turn

BYTES = random.Random(1).randbytes(120)
PAGE = (
    "<html><body>"
    + "".join(f'<li class="n{n}"><a href="/p{n}">Page</a></li>' for n in range(8))
    + "</body></html>"
)
LINKS = " ".join(f"https://{name}.example/path/{name}" for name in ("apple", "bridge", "candle"))
LATIN = "Sit lorem amet tempor ipsum, elit sed dolor labore et magna."
MASHED = "sdkfjhg lkdfgjh sdfkjgh"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (base64.b64encode(BYTES).decode(), DropReason.ENCODED_DATA),
        (f"here: {BYTES.hex()}", DropReason.ENCODED_DATA),
        (PAGE, DropReason.MARKUP),
        (LINKS, DropReason.LINKS),
        (LATIN, DropReason.BOILERPLATE),
        (MASHED, DropReason.KEYBOARD_MASHING),
        ("Subscribe to our newsletter and follow us!", DropReason.BOILERPLATE),
    ],
)
def test_text_that_is_not_prose_has_its_reason(text, reason):
    assert judge_turn(text) == reason


@pytest.mark.parametrize(
    "text",
    [
        f"What does the hash {BYTES[:32].hex()} mean?",
        f"My public key is {base64.b64encode(BYTES[:66]).decode()}, " + "and I do not know where to put it. " * 4,
        'Why does <a href="/x">this</a> not close the <div> and the <p> as I thought it would?',
        f"This is the page:\n```html\n{PAGE}\n```",
        "It is at https://docs.example/a, or else at https://docs.example/b",
        f"{LINKS} are those that I would read, in this order: the last one is the longest of them.",
        "Lorem ipsum is what printers put where the text will stand.",
        "Thanks, that's it thanks",
        "Strength as well.",
        "I love Jason Schwartzman.",
        "Strč prst skrz krk, to je věta bez samohlásek.",
        "thx brb ttyl lmk pls",
        "for (int i = 0; i < n; i++) { strncpy(dst, src, n); }",
        "Где здесь рядом с вокзалом хороший ресторан, который открыт?",  # noqa: RUF001
        "附近哪里有好的餐馆可以吃晚饭",
    ],
)
def test_prose_about_it_and_similar_text_are_kept(text):
    assert judge_turn(text) is None


def test_each_check_finds_only_its_own_kind():
    checks = (is_encoded, is_markup, is_links, is_filler, is_mashed)
    texts = (BYTES.hex(), PAGE, LINKS, LATIN, MASHED)
    assert [[check(text) for text in texts] for check in checks] == [
        [place == own for place in range(5)] for own in range(5)
    ]
    assert not any(check("") for check in checks)


def test_filler_with_punctuation_after_each_word_is_filler():
    assert is_filler("Lorem, ipsum. Dolor; sit, amet!")
