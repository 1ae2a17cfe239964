import numpy as np
import pyarrow as pa
import pytest

from mongars.neurons.bidirectional import bidirectional_encoder
from mongars.neurons.neurons import Neurons
from mongars.training.config import ContrastiveConfig
from mongars.training.pairs import PairTable, tokenise_pairs
from mongars.training.text import TokenTable

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

    def read(talk=TALK, split="train", **knobs):
        messages = [{"role": role, "content": content} for role, content in talk]
        batch = pa.Table.from_pylist([{"id": "a", "split": split, "messages": messages}])
        return tokenise_pairs(batch, base=str(base_folder), config=ContrastiveConfig(**knobs)).to_pylist()

    return read


@pytest.fixture
def told(pairs, base):
    def text(ids):
        return ids and base.tokenizer.decode(ids, skip_special_tokens=True)

    def texts(*arguments, **knobs):
        return [(text(row["query"]), text(row["positive"])) for row in pairs(*arguments, **knobs)]

    return texts


def test_a_turn_and_the_next_one_of_the_other_role_are_a_pair(told):
    assert told(pairs="turns", min_tokens=1) == [
        ("a first question", "a first answer"),
        ("a second answer", "hello"),
        ("hello", "a third answer"),
    ]


def test_a_turn_that_is_too_short_is_left_out_with_its_pairs(told):
    assert told(pairs="turns", min_tokens=4) == [("a first question", "a first answer")]


def test_each_turn_of_a_person_or_the_assistant_is_its_own_positive(told):
    texts = ["a first question", "a first answer", "a second answer", "a third answer"]
    assert told(pairs="simcse") == [(text, None) for text in texts]


@pytest.mark.parametrize("kind", ["simcse", "turns"])
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
    rows = [{"id": name, "query": [place], "positive": [place, 7]} for place, name in enumerate("cab")]
    table = PairTable.of(rows)
    assert table.queries.ids == table.positives.ids == ("a", "b", "c")
    assert [table.queries.row(place).tolist() for place in range(3)] == [[1], [2], [0]]
    assert [table.positives.row(place).tolist() for place in range(3)] == [[1, 7], [2, 7], [0, 7]]
    assert (len(table), table.token_count, table.lengths) == (3, 9, [2, 2, 2])


def test_texts_that_are_their_own_positives_are_kept_once():
    table = PairTable.of([{"id": "a", "query": [1, 2], "positive": None}])
    assert table.positives is table.queries
    assert (table.token_count, table.lengths) == (2, [2])
    assert len(PairTable.of([])) == 0
    assert np.array_equal(TokenTable.of([("a", [1, 2])]).tokens, table.queries.tokens)
