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
    """Return pairs(talk, ...) -> the rows of token ids of one conversation."""

    def read(talk=TALK, split="train", opinions=(), **options):
        messages = [{"role": role, "content": content} for role, content in talk]
        rated = [dict(zip(("query", "text", "good"), opinion, strict=True)) for opinion in opinions]
        batch = pa.Table.from_pylist([{"id": "a", "split": split, "messages": messages, "opinions": rated}])
        return tokenise_pairs(batch, base=str(base_folder), config=ContrastiveConfig(**options)).to_pylist()

    return read


@pytest.fixture
def texts_of(pairs, base):
    """Return texts_of(talk, ...) -> [(query, positive, negative)] as text, None for a missing one."""

    def text(ids):
        return ids and base.tokenizer.decode(ids, skip_special_tokens=True)

    def texts(*arguments, **options):
        return [
            tuple(text(row[part]) for part in ("query", "positive", "negative"))
            for row in pairs(*arguments, **options)
        ]

    return texts


def test_a_turn_and_the_next_one_of_the_other_role_are_a_pair(texts_of):
    assert texts_of(pairs="turns", min_tokens=1) == [
        ("a first question", "a first answer", None),
        ("a second answer", "hello", None),
        ("hello", "a third answer", None),
    ]


def test_too_short_turns_are_left_out_with_their_pairs(texts_of):
    assert texts_of(pairs="turns", min_tokens=4) == [("a first question", "a first answer", None)]


def test_simcse_pairs_each_turn_of_user_and_assistant_with_itself(texts_of):
    texts = ["a first question", "a first answer", "a second answer", "a third answer"]
    assert texts_of(pairs="simcse") == [(text, None, None) for text in texts]


def test_answers_rated_good_are_positives_and_bad_ones_hard_negatives(texts_of):
    opinions = [
        ("a first question", "a first answer", False),
        ("a first question", "a better answer", True),
        ("a first question", "an old memory", False),
        ("a second answer", "hello", True),  # adjacent turns: no second pair
        ("hello", "a wrong answer", False),
    ]
    assert texts_of(pairs="feedback", min_tokens=1, opinions=opinions) == [
        ("a second answer", "hello", None),
        ("hello", "a third answer", "a wrong answer"),
        ("a first question", "a better answer", "a first answer"),
        ("a first question", "a better answer", "an old memory"),
    ]


def test_a_too_short_negative_leaves_its_pair_without_one(texts_of):
    opinions = [("a first question", "no", False)]
    assert texts_of(pairs="feedback", opinions=opinions)[0] == ("a first question", "a first answer", None)


def test_opinions_only_count_for_feedback_pairs(texts_of):
    opinions = [("a first question", "a first answer", False)]
    assert texts_of(pairs="turns", opinions=opinions) == [("a first question", "a first answer", None)]


def test_a_version_without_opinions_gives_pairs_of_turns(base_folder):
    messages = [
        {"role": "user", "content": "a first question"},
        {"role": "assistant", "content": "a first answer"},
    ]
    batch = pa.Table.from_pylist([{"id": "a", "split": "train", "messages": messages}])
    rows = tokenise_pairs(batch, base=str(base_folder), config=ContrastiveConfig(pairs="feedback"))
    assert rows["id"].to_pylist() == ["a/0"]
    assert rows["negative"].to_pylist() == [None]


@pytest.mark.parametrize("kind", ["simcse", "turns", "feedback"])
def test_held_out_conversations_give_no_pair(pairs, kind):
    assert pairs(split="test", pairs=kind) == []


def test_texts_have_the_tokens_of_serving_up_to_max_tokens(pairs, base):
    text = "  hello <|user|> there, how are you today? "
    (served,) = Neurons(bidirectional_encoder(base), base.tokenizer).tokenize([text]).windows
    (row,) = pairs([("user", text)])
    assert row["query"] == served[1]
    (cut,) = pairs([("user", text)], max_tokens=5)
    assert cut["query"] == served[1][:5]


def test_pairs_stay_together_in_any_order_of_rows():
    rows = [
        {"id": name, "query": [index], "positive": [index, 7], "negative": [8] * index or None}
        for index, name in enumerate("cab")
    ]
    table = PairTable.of(rows)
    assert table.queries.ids == table.positives.ids == ("a", "b", "c")
    assert [table.queries.row(index).tolist() for index in range(3)] == [[1], [2], [0]]
    assert [table.positives.row(index).tolist() for index in range(3)] == [[1, 7], [2, 7], [0, 7]]
    assert [table.negatives.row(index).tolist() for index in range(3)] == [[8], [8, 8], []]
    assert (len(table), table.token_count, table.lengths) == (3, 12, [2, 2, 2])


def test_texts_that_are_their_own_positives_are_stored_once():
    table = PairTable.of([{"id": "a", "query": [1, 2], "positive": None, "negative": None}])
    assert table.positives is table.queries
    assert (table.token_count, table.lengths) == (2, [2])
    assert len(PairTable.of([])) == 0
    assert np.array_equal(TokenTable.of([("a", [1, 2])]).tokens, table.queries.tokens)
