"""Duplicates are found in any order, verified, and grouped."""

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mongars.curation.dedup.minhash import (
    band_hashes,
    candidate_pairs,
    components,
    content_hash,
    jaccard,
    normalise,
    shingle_hashes,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def test_copies_with_other_case_spacing_and_tags_are_equal():
    one = normalise(["Hello  THERE", "mail <EMAIL_3f2a>"])
    assert one == normalise([" hello there ", "Mail <EMAIL_0000>\n"])
    assert content_hash(one) == content_hash(normalise(["hello there", "mail <EMAIL_1111>"]))
    assert content_hash(one) != content_hash(normalise(["hello there", "mail <PHONE_1111>"]))


@given(texts)
def test_a_text_has_one_shingle_per_distinct_5_gram(text):
    padded = text.ljust(5)
    expected = {padded[start : start + 5] for start in range(len(padded) - 4)}
    assert len(shingle_hashes(text)) == len(expected)


@given(texts, texts)
def test_jaccard_equals_that_of_the_character_n_grams(one, other):
    first, second = ({t.ljust(5)[i : i + 5] for i in range(len(t.ljust(5)) - 4)} for t in (one, other))
    assert jaccard(shingle_hashes(one), shingle_hashes(other)) == len(first & second) / len(first | second)


def corpus(rng, count):
    words = [
        "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 9))) for _ in range(2000)
    ]
    return [[rng.choice(words) for _ in range(80)] for _ in range(count)]


def test_near_copies_are_proposed_and_distinct_texts_are_not():
    rng = random.Random(3)
    originals = corpus(rng, 200)
    copies = [[rng.choice("xyz") * 5 if rng.random() < 0.05 else word for word in words] for words in originals]
    hashes = [shingle_hashes(" ".join(words)) for words in originals + copies]
    similar = {
        (i, j) for i, j in candidate_pairs(band_hashes(hashes).T).tolist() if jaccard(hashes[i], hashes[j]) >= 0.7
    }
    truth = {(i, i + 200) for i in range(200) if jaccard(hashes[i], hashes[i + 200]) >= 0.7}
    assert len(truth) > 150
    assert len(similar & truth) >= 0.95 * len(truth)
    assert similar <= truth


def test_a_bucket_of_equal_rows_is_one_group_with_linearly_many_pairs():
    bands = np.ones((500, 32), dtype=np.uint32)
    pairs = candidate_pairs(bands.T)
    assert len(pairs) < 500 * 33
    assert set(components(500, pairs).tolist()) == {0}


def test_no_rows_give_no_pairs():
    assert candidate_pairs(band_hashes([]).T).shape == (0, 2)


@given(
    st.integers(1, 20).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2))))
)
def test_components_contain_every_pair_and_have_their_smallest_row_as_label(case):
    count, pairs = case
    roots = components(count, pairs)
    assert all(roots[one] == roots[other] for one, other in pairs)
    assert all(roots[root] == root <= row for row, root in enumerate(roots))
