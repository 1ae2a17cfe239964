import torch

from mongars.lm.tokenize import padded, tokenize


def test_rows_are_padded_at_the_right_to_the_longest():
    input_ids, attention_mask = padded([[5, 6, 7], [8]])
    assert input_ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert input_ids.dtype == attention_mask.dtype == torch.int64


def test_each_text_is_tokenised_alone_and_no_texts_are_no_error(base):
    assert tokenize(base.tokenizer, ["hello", ""]) == [base.tokenizer("hello")["input_ids"], []]
    assert tokenize(base.tokenizer, []) == []
