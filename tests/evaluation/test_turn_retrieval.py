"""Retrieval of answers by the turns before them: the pairs, and their scores."""

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
    return Row(name, [{"role": roles[index % 2], "content": text} for index, text in enumerate(texts)])


def many(count):
    """Return `count` pairs of distinct conversations, questions and answers."""
    return [TurnPair(f"c{number}", f"question {number}", f"answer {number}") for number in range(count)]


def encode(corpus, vector_of):
    return np.array([vector_of(text) for text in corpus.texts], dtype=np.float32)


def unit(axis, dimensions=MIN_DOCUMENTS + 1):
    return np.eye(dimensions)[axis]


def test_a_pair_is_a_users_turn_and_the_answer_right_after_it():
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


def test_the_chosen_pairs_do_not_depend_on_the_order_of_rows():
    rows = [talk(f"c{number}", "q", f"a{number}", "r", f"b{number}") for number in range(30)]
    chosen = held_out_pairs(rows, most=25)
    assert len(set(chosen)) == 25
    shuffled = random.Random(3).sample(rows, len(rows))
    assert held_out_pairs(shuffled, most=25) == chosen
    assert len({pair.conversation for pair in chosen}) > 12  # not the pairs of the first conversations
    assert len(held_out_pairs(rows)) == 60


def test_one_more_conversation_replaces_at_most_one_pair():
    rows = [talk(f"c{number}", "q", f"a{number}") for number in range(40)]
    before, after = (set(held_out_pairs(rows[:count], most=20)) for count in (39, 40))
    assert len(before - after) <= 1


def test_an_encoder_that_maps_each_question_to_its_answer_finds_all():
    corpus = TurnCorpus(many(MIN_DOCUMENTS))
    found = corpus.search(encode(corpus, lambda text: unit(int(text.split()[1]))))
    assert (found.recall_at_10.value, found.ndcg_at_10.value) == (1.0, 1.0)
    assert found.ndcg_at_10.by_conversation["c3"] == (1.0, 1)


def test_a_constant_encoder_finds_nothing():
    corpus = TurnCorpus(many(MIN_DOCUMENTS))
    found = corpus.search(encode(corpus, lambda _: unit(0)))
    assert (found.recall_at_10.value, found.ndcg_at_10.value) == (0.0, 0.0)


def test_equal_answers_are_one_document_relevant_to_each_of_their_queries():
    shared = [TurnPair(f"s{number}", f"yes or no {number}", "Yes.") for number in range(5)]
    corpus = TurnCorpus([*many(MIN_DOCUMENTS - 1), *shared])

    def vector(text):
        if text == "Yes." or text.startswith("yes or no"):
            return unit(MIN_DOCUMENTS)
        return unit(int(text.split()[1]))

    found = corpus.search(encode(corpus, vector))  # five equal documents would tie, and none would rank first
    assert [found.ndcg_at_10.by_conversation[f"s{number}"] for number in range(5)] == [(1.0, 1)] * 5


def test_scores_are_added_up_by_conversation():
    pairs = [TurnPair("one", "question 0", "answer 0"), TurnPair("one", "question 1", "answer 1"), *many(110)[2:]]
    corpus = TurnCorpus(pairs)
    # questions of even numbers find their answers, the others have a zero vector
    found = corpus.search(
        encode(
            corpus,
            lambda text: unit(int(text.split()[1]), 120) * (text[0] == "a" or int(text.split()[1]) % 2 == 0),
        )
    )
    assert found.recall_at_10.by_conversation["one"] == (1.0, 2)
    assert found.ndcg_at_10.value == pytest.approx(0.5)


def test_too_few_distinct_documents_are_not_scored():
    for count, measured in ((MIN_DOCUMENTS - 1, False), (MIN_DOCUMENTS, True)):
        corpus = TurnCorpus(many(count))
        assert (corpus.search(encode(corpus, lambda text: unit(int(text.split()[1])))) is not None) == measured
    # many queries with few distinct answers are still a small corpus
    same = TurnCorpus([TurnPair(pair.conversation, pair.query, "Yes.") for pair in many(500)])
    assert same.search(encode(same, lambda _: unit(0))) is None


def test_positives_align_each_question_with_its_answer():
    corpus = TurnCorpus([TurnPair("a", "q", "x"), TurnPair("b", "q", "y"), TurnPair("c", "x", "x")])
    assert corpus.texts == ["q", "x", "y"]  # each text once
    queries, answers = corpus.positives(np.array([[0.0], [1.0], [2.0]]))
    assert (queries.ravel().tolist(), answers.ravel().tolist()) == ([0, 0, 1], [1, 2, 1])
