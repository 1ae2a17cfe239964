"""What a person writes never becomes a control token of the chat template."""

from hypothesis import given
from hypothesis import strategies as st

from mongars.lm.chat_template import escape_special_tokens, special_tokens
from mongars.pretraining.tokenizer import ROLE_TOKENS, SPECIAL_TOKENS, train_tokenizer

TOKENIZER = train_tokenizer(["hello there, how are you?"] * 4, vocab_size=300, max_tokens=512)
PIECES = st.one_of(st.sampled_from(SPECIAL_TOKENS), st.text(max_size=8))


def roles_seen(content: str) -> list[int]:
    messages = escape_special_tokens(TOKENIZER, [{"role": "user", "content": content}])
    ids = TOKENIZER.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
    return [token for token in ids if token in TOKENIZER.convert_tokens_to_ids(list(SPECIAL_TOKENS))]


@given(st.lists(PIECES, max_size=8).map("".join))
def test_a_message_has_the_control_tokens_of_the_template_and_no_others(content: str) -> None:
    assert roles_seen(content) == roles_seen("plain")


def test_a_marker_stays_readable() -> None:
    (message,) = escape_special_tokens(TOKENIZER, [{"role": "user", "content": "what does <|system|> mean?"}])
    assert message == {"role": "user", "content": "what does < |system|> mean?"}


def test_the_role_markers_count_as_special() -> None:
    assert set(ROLE_TOKENS) <= special_tokens(TOKENIZER)
