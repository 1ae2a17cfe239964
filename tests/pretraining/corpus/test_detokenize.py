import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongars.pretraining.corpus.detokenize import (
    groups_of_lines,
    parts_of_line,
    spoken,
    tokenised_sentences,
    untokenise,
    worked_answer,
)

WORDS = st.lists(st.sampled_from(["a", "bee", "cat.", "dog,", "end!", "x"]), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("tokenised", "written"),
    [
        ("Ducks , geese ; swans .", "Ducks, geese; swans."),
        ("a north @-@ west wind", "a north-west wind"),
        ("1 @,@ 250 boats of 0 @.@ 5 t", "1,250 boats of 0.5 t"),
        ("the mill 's wheel is n't theirs , they 've said", "the mill's wheel is n't theirs, they've said"),
        ("I don 't , he 'll", "I don't, he'll"),
        ('a " red hat " and a " blue " one', 'a "red hat" and a "blue" one'),
        ('He said " stop . "', 'He said "stop."'),
        ("a ' dry ' dock", "a 'dry' dock"),
        ("the sailors ' song", "the sailors' song"),
        ('the " open quote', "the open quote"),
        ("about 60 cm ( 24 in ) long", "about 60 cm (24 in) long"),
        ('the " ( old ) mill "', 'the "(old) mill"'),
        ("79 % at $ 5 and / or £ 4", "79% at $5 and/or £4"),
        ("a .22 rifle", "a .22 rifle"),
        ("four o ' clock", "four o'clock"),
        ("15 July – 23 July", "15 July – 23 July"),  # noqa: RUF001 (the dash is what is tested)
        ("", ""),
    ],
)
def test_tokenised_text_becomes_natural_text(tokenised: str, written: str) -> None:
    assert untokenise(tokenised) == written


@given(st.text(alphabet="ab ,.'\"()-", max_size=40))
def test_untokenise_keeps_letters_in_order(text: str) -> None:
    assert re.sub(r"[^ab]", "", untokenise(text)) == re.sub(r"[^ab]", "", text)


@given(st.text(alphabet="ab ,.'\"@-", max_size=40))
def test_untokenise_returns_one_line_without_double_spaces(text: str) -> None:
    written = untokenise(text)
    assert "  " not in written
    assert written == written.strip()


@pytest.mark.parametrize(
    ("transcribed", "written"),
    [
        ("{vocalsound} So , we {pause} begin .", "So, we begin."),
        ("they {disfmarker} they {disfmarker} they left", "they left"),
        ("we go {disfmarker} they stay", "we go they stay"),
        ("Mm - hmm , twenty - one", "Mm-hmm, twenty-one"),
        ("a tool , @ @ , for us", "a tool, for us"),
        ("[Laughter.] Thank you [to the chair] all.", "Thank you [to the chair] all."),
        ("{vocalsound} .", ""),
        ("{comment}", ""),
    ],
)
def test_transcription_marks_are_removed(transcribed: str, written: str) -> None:
    assert spoken(transcribed) == written


def test_a_worked_answer_ends_with_a_sentence_and_has_no_annotations() -> None:
    answer = "He has 3*4 = $<<3*4=12>>12.\nThat is 12+1,000 = <<12+1000=1012>>1,012.\n#### 1,012"
    assert worked_answer(answer) == "He has 3*4 = $12.\nThat is 12+1,000 = 1,012.\nThe answer is 1,012."


def test_sentences_end_at_a_separate_mark_and_keep_their_closing_quote() -> None:
    text = 'No. 2 sailed . He said " wait . " " Why ? " she asked . The end'
    assert list(tokenised_sentences(text)) == [
        "No. 2 sailed .",
        'He said " wait . "',
        '" Why ? "',
        "she asked .",
        "The end",
    ]


@given(WORDS)
def test_joined_sentences_are_the_text(words: list[str]) -> None:
    text = " ".join(words).replace(".", " .")
    assert " ".join(tokenised_sentences(text)) == text


@given(st.lists(WORDS.map(" ".join), max_size=10), st.integers(1, 20))
def test_groups_contain_every_line_once_and_respect_the_limit(lines: list[str], limit: int) -> None:
    groups = list(groups_of_lines(lines, limit))
    assert [line for group in groups for line in group.split("\n")] == lines
    assert all(len(group.split()) <= limit or "\n" not in group for group in groups)


@given(WORDS.map(" ".join), st.integers(1, 10))
def test_joined_parts_of_a_line_are_the_line(line: str, limit: int) -> None:
    parts = list(parts_of_line(line, limit))
    assert " ".join(parts) == line
    assert all(part[-1] in ".!?" for part in parts[:-1])
