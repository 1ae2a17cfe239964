"""The shipped tagger: finds common names, handles any text, and is refused when damaged."""

import math
import re
import shutil
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongars.curation.pii import find_pii
from mongars.curation.pii.person_names.features import BUCKETS, EDGES, features, read_facts
from mongars.curation.pii.person_names.tagger import FOLDER, WEIGHTS, PersonTagger, load_tagger
from mongars.curation.pii.person_names.templates import FIRST, LAST, OTHER, sentences
from mongars.curation.pii.spans import PiiType, Span
from mongars.errors import InputError

LISTS = [frozenset(name.lower() for name in names) for names in (FIRST, LAST, OTHER)]
PIECES = [
    "Anna",
    "anna",
    "Okafor",
    "B.",
    "LEE",
    "McKay",
    "A1",
    "o\u2019Brien's",
    "Anna\u2019s",
    "London",
    "i am",
    "İ",
    "ß",
]
SIGNS = [" ", "  ", "\n", ". ", "!", "^", "$", "'s", "\ue000", "\ud800", "é", "1", "-", "("]


def names(text):
    return [text[span.start : span.end] for span in load_tagger().find(text)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("My name is Patricia Johnson and I need help.", "Patricia Johnson"),
        ("Hello, this is Michael speaking.", "Michael"),
        ("Je m'appelle Camille Tremblay.", "Camille Tremblay"),
        ("I read Jessica's book", "Jessica"),
    ],
)
def test_a_common_name_is_found_whole_and_without_its_possessive(text, name):
    assert names(text) == [name]


@pytest.mark.parametrize(
    "text", ["", "Find me a Thai restaurant in London on Monday.", "what a good day", "J'habite à Montreal."]
)
def test_other_capitalised_words_are_not_names(text):
    assert names(text) == []


def test_a_name_in_an_address_is_not_found_twice():
    text = "I am Patricia Johnson, patricia.johnson@example.com"
    kinds = [str(span.type) for span in find_pii(text, (), load_tagger().find)]
    assert kinds == ["PERSON", "EMAIL"]


@given(
    st.text(max_size=40) | st.lists(st.sampled_from(["Anna", "B.", "Lee", " ", "\n", "'s", "é", "1"])).map("".join)
)
def test_spans_are_in_order_within_any_text_and_do_not_overlap(text):
    spans = list(load_tagger().find(text))
    places = [place for span in spans for place in (span.start, span.end)]
    assert places == sorted(places)
    assert all(span.start < span.end <= len(text) and 0 < span.score <= 1 for span in spans)


def test_a_damaged_tagger_is_refused_with_a_remedy(tmp_path):
    with pytest.raises(InputError, match="train_name_tagger"):
        load_tagger(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"no tensors")
    with pytest.raises(InputError):
        load_tagger(tmp_path)


def test_a_tagger_of_other_features_is_refused(tmp_path, monkeypatch):
    shutil.copy(FOLDER / WEIGHTS, tmp_path)
    monkeypatch.setattr("mongars.curation.pii.person_names.tagger.FEATURES", -1)
    with pytest.raises(InputError, match="other features"):
        load_tagger(tmp_path)


def test_the_shipped_weights_are_small_and_have_a_card():
    assert (FOLDER / WEIGHTS).stat().st_size < 2_000_000
    card = (FOLDER / "README.md").read_text()
    assert "CC BY 4.0" in card
    assert f"threshold, {load_tagger().threshold}," in card


def test_negative_weights_find_nothing():
    assert list(PersonTagger([-1.0] * (1 << 16), 0.5).find("Patricia Johnson")) == []


@given(st.lists(st.sampled_from([*PIECES, *SIGNS])).map("".join) | st.text(max_size=60))
def test_cached_scores_give_the_spans_of_the_reference_implementation(text):
    tagger = load_tagger()
    assert list(tagger.find(text)) == reference_spans(tagger, text)


def test_synthetic_sentences_give_the_spans_of_the_reference_implementation():
    texts = ["".join(piece for piece, _ in pieces) for pieces in sentences(400, seed=7)]
    tagger = load_tagger()
    found = [list(tagger.find(text)) for text in texts]
    assert found == [reference_spans(tagger, text) for text in texts]
    assert sum(map(len, found)) > 100


def test_training_gets_the_features_in_the_order_of_the_reference():
    facts = read_facts("I met Anna Okafor's son.")
    wanted = [
        crc32(feature.encode()) % BUCKETS for feature in features_of(["I", "met", "Anna", "Okafor", "son", "."], 2)
    ]
    assert list(features(facts, EDGES + 2)) == wanted


def reference_spans(tagger, text):
    """Find names by the definition of version 1 of the features, without any cache."""
    tokens = [
        (match.start(), re.sub("['\u2019]s$", "", match.group()))
        for match in re.finditer(r"\w+(?:['\u2019.-]\w+)*|[^\w\s]", text)
    ]
    words = [word for _, word in tokens]
    spans, run = [], []
    for place, (start, word) in enumerate([*tokens, (len(text) + 2, "")]):
        score = score_of(tagger, words, place) if word and may_be_name(word) else 0.0
        if run:
            (last_start, last), _ = run[-1]
            end = last_start + len(last)
            dot = word == "." and len(last) == 1
            if not dot and (score < tagger.follows or text[end:start] not in (" ", ". ", "")):
                best = max(each for _, each in run)
                if best >= tagger.threshold:
                    spans.append(Span(run[0][0][0], end, PiiType.PERSON, best))
                run = []
        if score >= tagger.follows:
            run.append(((start, word), score))
    return spans


def may_be_name(word):
    return (word[0].isupper() and not any(map(str.isdigit, word))) or word in LISTS[0] | LISTS[1]


def score_of(tagger, words, place):
    total = sum(
        tagger.weights[crc32(feature.encode("utf-8", "surrogatepass")) % BUCKETS]
        for feature in features_of(words, place)
    )
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, total))))


def features_of(words, place):
    around = ["^", "^", *words, "$", "$"][place : place + 5]
    second_before, before, plain, after, second_after = map(str.lower, around)
    shape = shape_of(around[2])
    begins, capital = before in set('.!?:;"\u201c\u201d\u00ab\u00bb()[]*-\u2013\u2014^'), around[2][0].isupper()
    named_before, named_after = around[1][0].isupper(), around[3][0].isupper()
    listed, listed_before, listed_after = ("".join(f"{w in ns:d}" for ns in LISTS) for w in (plain, before, after))
    return (
        f"w={plain}",
        f"s2={plain[-2:]}",
        f"s3={plain[-3:]}",
        f"p3={plain[:3]}",
        f"b={before}",
        f"a={after}",
        f"ba={before} {after}",
        f"b2={second_before} {before}",
        f"a2={after} {second_after}",
        f"h={shape}{begins:d}{named_before:d}{named_after:d}",
        f"l={min(len(around[2]), 12)}{shape}",
        f"g={listed}{begins:d}{capital:d}",
        f"gb={listed}{listed_before}{named_before:d}",
        f"ga={listed}{listed_after}{named_after:d}",
        f"gba={listed} {before}",
        "1",
    )


def shape_of(word):
    if word[0].islower():
        return "x"
    if len(word) == 1:
        return "X"
    if word.isupper():
        return "XX"
    return "Xx" if word[1:].islower() else "xX"
