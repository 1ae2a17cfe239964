"""Failed, mixed and correct answers of the load."""

import numpy as np
import pytest

from mongars.demo.load import Answer
from mongars.demo.verify import TOLERANCE, tally

KNOWN = frozenset({(0, None), (1, "new")})


def base(texts):
    return np.asarray([[len(text), 0.0] for text in texts], dtype=np.float32)


def new(texts):
    return base(texts) + 1


ENCODERS = {None: base, "new": new}


def embedding(claim, encode, texts=("hello", "you")):
    vectors = tuple(tuple(row) for row in encode(texts).tolist())
    return Answer("embedding", texts, (claim,), vectors)


def test_answers_that_match_their_claim_are_correct():
    found = tally([embedding((0, None), base), embedding((1, "new"), new)], ENCODERS, KNOWN)
    assert (found.failed, found.mixed, found.by_generation) == (0, 0, {0: 1, 1: 1})


@pytest.mark.parametrize(
    ("case", "answer"),
    [
        ("the other version's vectors", embedding((1, "new"), base)),
        ("a pair that never existed", embedding((1, None), base)),
        ("an unknown digest", embedding((1, "other"), new)),
        ("a vector with an error", embedding((0, None), lambda texts: base(texts) + 2 * TOLERANCE)),
        ("a row too few", Answer("embedding", ("a", "b"), ((0, None),), ((1.0, 0.0),))),
        ("two versions in one stream", Answer("chat", ("hi",), ((0, None), (1, None)))),
        ("a chat of no version", Answer("chat", ("hi",))),
        ("a chat of a generation that never existed", Answer("chat", ("hi",), ((7, None),))),
        ("a chat by an adapter that is not for chat", Answer("chat", ("hi",), ((1, "new"),))),
    ],
)
def test_an_answer_that_does_not_match_its_claim_is_mixed(case, answer):
    assert tally([answer], ENCODERS, KNOWN).mixed == 1, case


def test_a_repeated_failure_is_counted_but_listed_once():
    failed = Answer("chat", ("hi",), failure="ReadTimeout: ")
    found = tally([failed, failed, Answer("chat", ("hi",), ((1, None),))], ENCODERS, KNOWN)
    assert (found.chats, found.failed, found.mixed, found.failures) == (3, 2, 0, ("ReadTimeout: ",))
