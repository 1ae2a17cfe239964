"""Turns that search for their answers: which pairs there are, and what they score."""

import random

import numpy as np
import pytest

from mongars.evaluation.turn_retrieval import (
    MIN_DOCUMENTS,
    TurnCorpus,
    TurnPair,
    answered_turns,
    held_out_pairs,
)
from mongars.training.data.tokenize import Row


def talk(name, *texts):
    roles = ("user", "assistant")
    return Row(name, [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)])


def many(count):
    """Pairs of as many conversations, each with a question and an answer of its own."""
    return [TurnPair(f"c{number}", f"question {number}", f"answer {number}") for number in range(count)]


def placed(corpus, vector_of):
    return np.array([vector_of(text) for text in corpus.texts], dtype=np.float32)


def unit(place, dimensions=MIN_DOCUMENTS + 1):
    return np.eye(dimensions)[place]


def test_only_an_answer_right_after_a_users_turn_is_a_pair():
    turns = [
        ("system", "be brief"),
        ("assistant", "hello"),
        ("user", "a"),
        ("user", " b "),
        ("assistant", "c"),
        ("assistant", "d"),
        ("user", "e"),
        ("assistant", " \n"),
        ("user", "f"),
    ]
    assert list(answered_turns(turns)) == [("b", "c")]


def test_the_most_pairs_are_the_same_ones_in_any_order_of_the_rows():
    rows = [talk(f"c{number}", "q", f"a{number}", "r", f"b{number}") for number in range(30)]
    chosen = held_out_pairs(rows, most=25)
    assert len(set(chosen)) == 25
    shuffled = random.Random(3).sample(rows, len(rows))
    assert held_out_pairs(shuffled, most=25) == chosen
    assert len({pair.conversation for pair in chosen}) > 12  # spread over the conversations, not the first ones
    assert len(held_out_pairs(rows)) == 60


def test_a_conversation_more_displaces_few_of_the_pairs():
    rows = [talk(f"c{number}", "q", f"a{number}") for number in range(40)]
    before, after = (set(held_out_pairs(rows[:count], most=20)) for count in (39, 40))
    assert len(before - after) <= 1


def test_an_encoder_that_puts_each_question_on_its_answer_finds_them_all():
    corpus = TurnCorpus(many(MIN_DOCUMENTS))
    found = corpus.search(placed(corpus, lambda text: unit(int(text.split()[1]))))
    assert (found.recall_at_10.value, found.ndcg_at_10.value) == (1.0, 1.0)
    assert found.ndcg_at_10.by_conversation["c3"] == (1.0, 1)


def test_an_encoder_that_tells_nothing_apart_finds_nothing():
    corpus = TurnCorpus(many(MIN_DOCUMENTS))
    found = corpus.search(placed(corpus, lambda _: unit(0)))
    assert (found.recall_at_10.value, found.ndcg_at_10.value) == (0.0, 0.0)


def test_an_answer_that_several_conversations_share_is_one_document_and_right_for_each():
    shared = [TurnPair(f"s{number}", f"yes or no {number}", "Yes.") for number in range(5)]
    corpus = TurnCorpus([*many(MIN_DOCUMENTS - 1), *shared])

    def vector(text):
        if text == "Yes." or text.startswith("yes or no"):
            return unit(MIN_DOCUMENTS)
        return unit(int(text.split()[1]))

    found = corpus.search(placed(corpus, vector))  # five equal documents would tie, and none be found first
    assert [found.ndcg_at_10.by_conversation[f"s{number}"] for number in range(5)] == [(1.0, 1)] * 5


def test_scores_are_summed_by_conversation():
    pairs = [TurnPair("one", "question 0", "answer 0"), TurnPair("one", "question 1", "answer 1"), *many(110)[2:]]
    corpus = TurnCorpus(pairs)
    # every question of an even number is found first, the others look like none
    found = corpus.search(
        placed(
            corpus,
            lambda text: unit(int(text.split()[1]), 120) * (text[0] == "a" or int(text.split()[1]) % 2 == 0),
        )
    )
    assert found.recall_at_10.by_conversation["one"] == (1.0, 2)
    assert found.ndcg_at_10.value == pytest.approx(0.5)


def test_a_document_less_than_needed_and_nothing_is_scored():
    for count, measured in ((MIN_DOCUMENTS - 1, False), (MIN_DOCUMENTS, True)):
        corpus = TurnCorpus(many(count))
        assert (corpus.search(placed(corpus, lambda text: unit(int(text.split()[1])))) is not None) == measured
    # many queries with few different answers are a small corpus all the same
    same = TurnCorpus([TurnPair(pair.conversation, pair.query, "Yes.") for pair in many(500)])
    assert same.search(placed(same, lambda _: unit(0))) is None


def test_the_vectors_of_a_question_and_its_answer_come_side_by_side():
    corpus = TurnCorpus([TurnPair("a", "q", "x"), TurnPair("b", "q", "y"), TurnPair("c", "x", "x")])
    assert corpus.texts == ["q", "x", "y"]  # each text once
    queries, answers = corpus.positives(np.array([[0.0], [1.0], [2.0]]))
    assert (queries.ravel().tolist(), answers.ravel().tolist()) == ([0, 0, 1], [1, 2, 1])
