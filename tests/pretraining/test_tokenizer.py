from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from mongars.pretraining.tokenizer import SPECIAL_TOKENS, train_tokenizer

TEXTS = ["Book a table for two, please.", "A table for two on Friday?"] * 5


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    """A tokenizer loaded from its folder."""
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TEXTS, vocab_size=320, max_tokens=64).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@given(st.text())
def test_any_text_decodes_to_itself(tokenizer, text: str):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_special_tokens_have_the_first_ids_in_order(tokenizer):
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(len(SPECIAL_TOKENS)))


def test_plain_text_starts_with_bos(tokenizer):
    assert tokenizer("two")["input_ids"][0] == tokenizer.bos_token_id


def test_the_chat_template_ends_with_the_generation_prompt(tokenizer):
    text = tokenizer.apply_chat_template(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert text == "<bos><|system|>Be brief.<|end|><|user|>Hi<|end|><|assistant|>"


def test_the_same_texts_give_the_same_tokenizer(tokenizer):
    second = train_tokenizer(TEXTS, vocab_size=320, max_tokens=64)
    assert second.get_vocab() == tokenizer.get_vocab()
