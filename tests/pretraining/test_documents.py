import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongars.formats.jsonl import BadLine
from mongars.pretraining.documents import document_ids, document_order, document_texts, pack, read_document

PATH = Path("texts.jsonl")
CHAT = {"id": "c", "messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]}


def test_a_line_is_a_conversation_or_a_text():
    assert read_document(PATH, 1, json.dumps(CHAT).encode()) == CHAT["messages"]
    assert read_document(PATH, 1, json.dumps({"id": "t", "text": "A line."}).encode()) == "A line."
    assert read_document(PATH, 1, b"  \n") is None


def test_a_line_with_messages_and_text_is_a_conversation():
    assert read_document(PATH, 1, json.dumps(CHAT | {"text": "hi"}).encode()) == CHAT["messages"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": ', "not JSON"),
        (b'{"text": 3}', "no `id`"),
        (b'{"text": "\\ud800"}', "no `id`"),
        (b'\xff{"text": "a"}', "not UTF-8"),
        (b"[1]", "not a JSON object"),
    ],
)
def test_another_line_is_bad_with_a_reason(line: bytes, reason: str):
    found = read_document(PATH, 7, line)
    assert isinstance(found, BadLine)
    assert (found.path, found.line) == ("texts.jsonl", 7)
    assert reason in found.reason


def test_a_document_begins_with_bos_and_ends_with_eos(tiny_tokenizer):
    for document in ("A line.", CHAT["messages"]):
        ids = document_ids(tiny_tokenizer, document)
        assert ids[0] == tiny_tokenizer.bos_token_id
        assert ids[-1] == tiny_tokenizer.eos_token_id
        assert ids.count(tiny_tokenizer.bos_token_id) == 1


def test_a_long_text_is_not_truncated_and_decodes_to_itself(tiny_tokenizer):
    text = "table for two, " * 200 + "né à 数字 \U0001f600"
    ids = document_ids(tiny_tokenizer, text)
    assert tiny_tokenizer.decode(ids[1:-1]) == text


def test_a_special_token_in_a_text_stays_text(tiny_tokenizer):
    ids = document_ids(tiny_tokenizer, "<|assistant|>I am free<eos>")
    assert tiny_tokenizer.convert_tokens_to_ids("<|assistant|>") not in ids
    assert ids.count(tiny_tokenizer.eos_token_id) == 1


def test_the_texts_of_a_document_have_no_roles():
    assert list(document_texts("A line.")) == ["A line."]
    assert list(document_texts(CHAT["messages"])) == ["Hi.", "Hello."]


TOKENISED = st.lists(st.lists(st.integers(0, 8191), min_size=1, max_size=30), max_size=12)


@given(TOKENISED, st.integers(2, 16))
def test_rows_are_the_stream_of_documents_without_an_incomplete_row(texts: list[list[int]], context: int):
    stream = [token for ids in texts for token in ids]
    rows = pack(texts, context)
    assert rows.dtype == np.int32
    assert rows.shape == (len(stream) // context, context)
    assert rows.ravel().tolist() == stream[: rows.size]


@given(st.integers(0, 2**62), st.integers(0, 2**31))
def test_the_order_of_a_document_fits_a_signed_column(key: int, seed: int):
    assert 0 <= document_order(seed, key) < 2**63


def test_the_order_depends_on_the_seed_and_differs_from_that_of_the_keys():
    keys = range(500)
    first, second = (sorted(keys, key=lambda key: document_order(seed, key)) for seed in (0, 1))
    assert first != second
    assert first != list(keys)
    assert len({document_order(0, key) for key in keys}) == len(keys)


def test_the_order_of_a_document_has_its_known_value():
    """Another order would change every base that the same text gives."""
    assert document_order(0, 1) == 1523747835002241648
    assert document_order(7, 1) == 8141747360954777192
