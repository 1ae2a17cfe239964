from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from mongars.training.data.tokenize import TokenTable, read_rows, special_token_ids, token_ids, tokenise_batch

MESSAGES = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello there"}]


def table(*rows: tuple[str, str, list[dict[str, str]]]) -> pa.Table:
    return pa.Table.from_pylist([{"id": a, "split": b, "messages": c} for a, b, c in rows])


def test_only_rows_of_the_split_are_read(tmp_path: Path):
    part = tmp_path / "part.parquet"
    pq.write_table(table(("a", "train", MESSAGES), ("b", "test", MESSAGES)), part)
    (row,) = read_rows([part], "test")
    assert (row.id, row.messages) == ("b", MESSAGES)


def test_roles_become_special_tokens(base):
    ids = token_ids(base.tokenizer, MESSAGES, 100)
    assert base.tokenizer.decode(ids) == "<bos><|user|>hello<|end|><|assistant|>hello there<|end|>"
    assert {ids[0], ids[1], ids[-1]} <= special_token_ids(base.tokenizer)


def test_a_long_conversation_is_truncated_at_the_end(base):
    assert token_ids(base.tokenizer, MESSAGES, 3) == token_ids(base.tokenizer, MESSAGES, 100)[:3]


def test_tokenising_keeps_train_rows_with_something_to_predict(base, base_folder):
    batch = table(("a", "train", MESSAGES), ("b", "test", MESSAGES), ("c", "train", []))
    (row,) = tokenise_batch(batch, base=str(base_folder), max_tokens=100).to_pylist()
    assert (row["id"], row["tokens"]) == ("a", token_ids(base.tokenizer, MESSAGES, 100))


@given(st.dictionaries(st.text(), st.lists(st.integers(0, 1000), max_size=9), max_size=9))
def test_a_token_table_returns_its_rows_in_the_order_of_their_ids(rows: dict[str, list[int]]):
    tokens = TokenTable.of(rows.items())
    assert list(tokens.ids) == sorted(rows)
    assert [tokens.row(index).tolist() for index in range(len(tokens))] == [rows[key] for key in sorted(rows)]
    assert tokens.lengths == [len(rows[key]) for key in sorted(rows)]
    assert tokens.tokens.dtype == np.int32
