import numpy as np
import pyarrow as pa
import pytest

from mongars.neurons.bidirectional import bidirectional_encoder
from mongars.neurons.neurons import Neurons
from mongars.training.config import ContrastiveConfig
from mongars.training.data.pairs import PairTable, tokenise_pairs
from mongars.training.data.tokenize import TokenTable

TALK = [
    ("system", "you are kind"),
    ("user", "a first question"),
    ("assistant", "a first answer"),
    ("assistant", "a second answer"),
    ("user", "hello"),  # <bos> and a token
    ("assistant", "a third answer"),
]


@pytest.fixture
def pairs(base_folder):
    """Return pairs(talk, ...) -> [(query, positive or None)], as text again."""

    def read(talk=TALK, split="train", opinions=(), **knobs):
        messages = [{"role": role, "content": content} for role, content in talk]
        told = [dict(zip(("query", "text", "good"), opinion, strict=True)) for opinion in opinions]
        batch = pa.Table.from_pylist([{"id": "a", "split": split, "messages": messages, "opinions": told}])
        return tokenise_pairs(batch, base=str(base_folder), config=ContrastiveConfig(**knobs)).to_pylist()

    return read


@pytest.fixture
def told(pairs, base):
    def text(ids):
        return ids and base.tokenizer.decode(ids, skip_special_tokens=True)

    def texts(*arguments, **knobs):
        return [
            tuple(text(row[part]) for part in ("query", "positive", "negative"))
            for row in pairs(*arguments, **knobs)
        ]

    return texts


def test_a_turn_and_the_next_one_of_the_other_role_are_a_pair(told):
    assert told(pairs="turns", min_tokens=1) == [
        ("a first question", "a first answer", None),
        ("a second answer", "hello", None),
        ("hello", "a third answer", None),
    ]


def test_a_turn_that_is_too_short_is_left_out_with_its_pairs(told):
    assert told(pairs="turns", min_tokens=4) == [("a first question", "a first answer", None)]


def test_each_turn_of_a_person_or_the_assistant_is_its_own_positive(told):
    texts = ["a first question", "a first answer", "a second answer", "a third answer"]
    assert told(pairs="simcse") == [(text, None, None) for text in texts]


def test_what_a_user_called_good_is_a_pair_and_what_was_called_bad_a_hard_negative(told):
    opinions = [
        ("a first question", "a first answer", False),
        ("a first question", "a better answer", True),
        ("a first question", "an old memory", False),
        ("a second answer", "hello", True),  # neighbours: no second pair of them
        ("hello", "a wrong answer", False),
    ]
    assert told(pairs="feedback", min_tokens=1, opinions=opinions) == [
        ("a second answer", "hello", None),
        ("hello", "a third answer", "a wrong answer"),
        ("a first question", "a better answer", "a first answer"),
        ("a first question", "a better answer", "an old memory"),
    ]


def test_a_negative_that_is_too_short_leaves_its_pair_without_one(told):
    opinions = [("a first question", "no", False)]
    assert told(pairs="feedback", opinions=opinions)[0] == ("a first question", "a first answer", None)


def test_opinions_are_read_for_feedback_alone(told):
    opinions = [("a first question", "a first answer", False)]
    assert told(pairs="turns", opinions=opinions) == [("a first question", "a first answer", None)]


def test_a_version_from_before_there_were_opinions_gives_its_turns(base_folder):
    messages = [
        {"role": "user", "content": "a first question"},
        {"role": "assistant", "content": "a first answer"},
    ]
    batch = pa.Table.from_pylist([{"id": "a", "split": "train", "messages": messages}])
    rows = tokenise_pairs(batch, base=str(base_folder), config=ContrastiveConfig(pairs="feedback"))
    assert rows["id"].to_pylist() == ["a/0"]
    assert rows["negative"].to_pylist() == [None]


@pytest.mark.parametrize("kind", ["simcse", "turns", "feedback"])
def test_what_is_held_out_gives_no_pair(pairs, kind):
    assert pairs(split="test", pairs=kind) == []


def test_a_text_is_read_as_it_is_served(pairs, base):
    """The same tokens, special ones too, and cut where the window ends."""
    text = "  hello <|user|> there, how are you today? "
    (served,) = Neurons(bidirectional_encoder(base), base.tokenizer).read([text]).windows
    (row,) = pairs([("user", text)])
    assert row["query"] == served[1]
    (cut,) = pairs([("user", text)], max_tokens=5)
    assert cut["query"] == served[1][:5]


def test_pairs_stay_together_whatever_the_order_they_come_in():
    rows = [
        {"id": name, "query": [place], "positive": [place, 7], "negative": [8] * place or None}
        for place, name in enumerate("cab")
    ]
    table = PairTable.of(rows)
    assert table.queries.ids == table.positives.ids == ("a", "b", "c")
    assert [table.queries.row(place).tolist() for place in range(3)] == [[1], [2], [0]]
    assert [table.positives.row(place).tolist() for place in range(3)] == [[1, 7], [2, 7], [0, 7]]
    assert [table.negatives.row(place).tolist() for place in range(3)] == [[8], [8, 8], []]
    assert (len(table), table.token_count, table.lengths) == (3, 12, [2, 2, 2])


def test_texts_that_are_their_own_positives_are_kept_once():
    table = PairTable.of([{"id": "a", "query": [1, 2], "positive": None, "negative": None}])
    assert table.positives is table.queries
    assert (table.token_count, table.lengths) == (2, [2])
    assert len(PairTable.of([])) == 0
    assert np.array_equal(TokenTable.of([("a", [1, 2])]).tokens, table.queries.tokens)
