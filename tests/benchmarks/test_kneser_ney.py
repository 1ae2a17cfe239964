"""The n-gram models against sums that must be one, the paper's formulas and a slow second way."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.kneser_ney import FALLBACK_DISCOUNTS, KneserNey, Unigram, discounts_of
from mongars.errors import InputError

VOCABULARY = 7
token = st.integers(0, VOCABULARY - 1)
corpora = st.lists(st.lists(token, max_size=12).map(np.array), min_size=1, max_size=8).filter(
    lambda documents: any(len(each) > 1 for each in documents)
)


class SlowKneserNey:
    """The definition, with dictionaries of tuples."""

    def __init__(self, documents, vocabulary, order):
        self.vocabulary, self.order = vocabulary, order
        grams = [
            (start, tuple(document[start:end].tolist()))
            for document in documents
            for end in range(2, len(document) + 1)
            for start in range(max(0, end - order), end)
        ]
        lefts = defaultdict(set)
        for document in documents:
            for end in range(2, len(document) + 1):
                for start in range(max(1, end - order + 1), end):
                    lefts[tuple(document[start:end].tolist())].add(int(document[start - 1]))
        self.counts = defaultdict(Counter)
        for start, gram in grams:
            if len(gram) == order or start == 0:
                self.counts[len(gram)][gram] += 1
        for gram, before in lefts.items():
            self.counts[len(gram)][gram] += len(before)
        self.discounts = {
            length: discounts_of(np.array(list(found.values()))) for length, found in self.counts.items()
        }

    def probability(self, context, predicted):
        context = tuple(context)[max(0, len(context) - self.order + 1) :]
        return self._of(context, predicted)

    def _of(self, context, predicted):
        shorter = self._of(context[1:], predicted) if context else 1 / self.vocabulary
        length = len(context) + 1
        followers = {gram[-1]: n for gram, n in self.counts[length].items() if gram[:-1] == context}
        if not followers:
            return shorter
        discounts, total = self.discounts[length], sum(followers.values())
        rest = sum(discounts[min(n, 3)] for n in followers.values()) / total
        count = followers.get(predicted, 0)
        return (count - discounts[min(count, 3)]) / total + rest * shorter


@settings(deadline=None)  # no test asserts a time
@given(corpora, st.integers(1, 4), st.lists(token, max_size=5))
def test_the_probabilities_after_any_context_sum_to_one(documents, order, context):
    model = KneserNey.train(documents, VOCABULARY, order)
    distribution = model.distribution(context)
    assert (distribution > 0).all()
    assert distribution.sum() == pytest.approx(1)


@settings(deadline=None)  # no test asserts a time
@given(corpora, st.integers(1, 4), st.data())
def test_the_probabilities_after_a_context_of_the_corpus_sum_to_one(documents, order, data):
    document = data.draw(st.sampled_from(documents))
    end = data.draw(st.integers(0, len(document)))
    model = KneserNey.train(documents, VOCABULARY, order)
    assert model.distribution(document[:end]).sum() == pytest.approx(1)


@settings(deadline=None)  # no test asserts a time
@given(corpora, corpora, st.integers(1, 4))
def test_every_token_has_the_probability_of_the_definition(documents, heldout, order):
    model = KneserNey.train(documents, VOCABULARY, order)
    longest = min(order, max(map(len, documents)))
    slow = SlowKneserNey(documents, VOCABULARY, longest)
    expected = [
        slow.probability(document[:place].tolist(), int(document[place]))
        for document in heldout
        for place in range(1, len(document))
    ]
    assert np.exp(model.log_probabilities(heldout)) == pytest.approx(expected)


def test_a_larger_corpus_has_the_probabilities_of_the_definition_with_discounts_of_its_own():
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, 31)
    documents = [rng.choice(30, size=40, p=weights / weights.sum()) for _ in range(30)]
    model, slow = KneserNey.train(documents, 30), SlowKneserNey(documents, 30, 4)
    assert model.discounts[3] != FALLBACK_DISCOUNTS
    assert model.ngrams == [len(slow.counts[length]) for length in (1, 2, 3, 4)]
    heldout = rng.integers(0, 30, 25)
    expected = [
        slow.probability(heldout[:place].tolist(), int(heldout[place])) for place in range(1, len(heldout))
    ]
    assert np.exp(model.log_probabilities([heldout])) == pytest.approx(expected)


def test_discounts_are_those_of_the_paper():
    counts = np.repeat([1, 2, 3, 4, 9], [20, 8, 5, 3, 2])
    y = 20 / (20 + 2 * 8)
    expected = [0, 1 - 2 * y * 8 / 20, 2 - 3 * y * 5 / 8, 3 - 4 * y * 3 / 5]
    assert discounts_of(counts) == pytest.approx(expected)


@pytest.mark.parametrize("counts", [[1, 1, 2], [5, 6, 7], [1] + [2] * 3 + [3] * 20 + [4] * 200])
def test_counts_that_give_no_discount_fall_back(counts):
    assert discounts_of(np.array(counts))[1:].tolist() == list(FALLBACK_DISCOUNTS)


def test_a_sentence_that_was_seen_is_likelier_than_its_reverse():
    documents = [np.array([0, 1, 2, 3, 4, 5])] * 5 + [np.array([0, 5, 1])]
    model = KneserNey.train(documents, 6)
    seen, reverse = (model.log_probabilities([np.array(ids)]).sum() for ids in ([1, 2, 3, 4], [4, 3, 2, 1]))
    assert seen > reverse + 3


def test_a_document_does_not_run_into_the_next():
    model = KneserNey.train([np.array([0, 1]), np.array([2, 3])], 4, order=2)
    assert model.ngrams[1] == 2


def test_a_vocabulary_whose_n_grams_do_not_fit_is_refused():
    documents = [np.array([0, 1])]
    assert KneserNey.train(documents, 8192, order=4).ngrams
    with pytest.raises(InputError, match="smaller vocabulary"):
        KneserNey.train(documents, 151_000, order=4)


@pytest.mark.parametrize("documents", [[], [np.array([3])], [np.array([0, 9])], [np.array([0, -1])]])
def test_documents_without_tokens_to_predict_or_of_another_vocabulary_are_refused(documents):
    with pytest.raises(InputError):
        KneserNey.train(documents, VOCABULARY)


@settings(deadline=None)  # no test asserts a time
@given(st.lists(token, max_size=20))
def test_the_unigram_probabilities_sum_to_one(tokens):
    logs = Unigram(np.array(tokens, dtype=np.int64), VOCABULARY).logs
    assert np.exp(logs).sum() == pytest.approx(1)


def test_a_unigram_counts_with_half_a_token_more_for_each():
    logs = Unigram(np.array([1, 1, 2]), 4).logs
    assert np.exp(logs) == pytest.approx([0.5 / 5, 2.5 / 5, 1.5 / 5, 0.5 / 5])
