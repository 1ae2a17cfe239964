import pytest

from mongars.conversation.bouche import NO_ANSWER, Bouche
from mongars.errors import BackendError
from mongars.records import AdapterStamp, GenerationPiece, Usage

STAMP = AdapterStamp(generation=3, name="poet", digest="d" * 64)


def reply_to(*texts, reason="stop", stop=()):
    """Return the text that a user sees of a stream of `texts`, and its last piece."""
    reply = Bouche().reply(stop=stop)
    shown = []
    pieces = [GenerationPiece(text, STAMP) for text in texts]
    for piece in (*pieces, GenerationPiece("", STAMP, reason, Usage(5, len(texts)))):
        shown.append(reply.add(piece))
        if reply.is_complete:
            break
    last = reply.finish()
    return "".join([*shown, last.text]), last


def test_a_plain_reply_keeps_its_text_stamp_reason_and_usage():
    text, last = reply_to("Hello", " you", reason="length")
    assert text == "Hello you"
    assert (last.stamp, last.finish_reason, last.usage) == (STAMP, "length", Usage(5, 2))


def test_a_role_marker_split_between_pieces_is_removed():
    assert reply_to("Yes.<|im", "_e", "nd|> Good")[0] == "Yes. Good"


def test_text_that_only_begins_like_a_marker_is_shown():
    assert reply_to("a <|im", "possible thing", " <|")[0] == "a <|impossible thing <|"


def test_leading_whitespace_is_trimmed_across_pieces():
    assert reply_to(" \n", " ", " Hi there")[0] == "Hi there"


def test_a_reply_is_complete_at_a_stop_string_without_usage():
    reply = Bouche().reply(stop=["STOP"])
    assert reply.add(GenerationPiece("one ST", STAMP)) == "one "
    assert not reply.is_complete
    assert reply.add(GenerationPiece("OP two", STAMP)) == ""
    assert reply.is_complete
    assert reply.finish() == GenerationPiece("", STAMP, "stop")


def test_characters_that_no_database_stores_are_dropped():
    assert reply_to("Hel\0lo", "\ud800", " you")[0] == "Hello you"
    assert reply_to("\0", "\0")[0] == NO_ANSWER


@pytest.mark.parametrize("texts", [(), ("<|im_end|>",), ("  ", "\n")])
def test_a_reply_without_text_says_that_there_is_none(texts):
    assert reply_to(*texts)[0] == NO_ANSWER


def test_a_stream_without_a_single_piece_is_a_failure_of_the_backend():
    with pytest.raises(BackendError):
        Bouche().reply().finish()
