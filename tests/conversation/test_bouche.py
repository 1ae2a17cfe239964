from contextlib import aclosing

import pytest

from mongars.conversation.bouche import NO_ANSWER, Bouche
from mongars.errors import BackendError
from mongars.records import AdapterStamp, GenerationPiece, Usage

STAMP = AdapterStamp(generation=3, name="poet", digest="d" * 64)


class Speaker:
    """A backend's stream of given texts; knows whether it was closed."""

    def __init__(self, *texts, reason="stop"):
        self.texts, self.reason, self.closed = texts, reason, False

    async def stream(self):
        try:
            for text in self.texts:
                yield GenerationPiece(text=text, stamp=STAMP)
            yield GenerationPiece(text="", stamp=STAMP, finish_reason=self.reason, usage=Usage(5, len(self.texts)))
        finally:
            self.closed = True


async def shaped(speaker, **options):
    async with aclosing(Bouche().shape(speaker.stream(), **options)) as pieces:
        return [piece async for piece in pieces]


def said(pieces):
    return "".join(piece.text for piece in pieces)


async def test_a_plain_reply_passes_through_with_its_stamp_reason_and_usage():
    pieces = await shaped(Speaker("Hello", " you", reason="length"))
    assert said(pieces) == "Hello you"
    assert {piece.stamp for piece in pieces} == {STAMP}
    assert pieces[-1].finish_reason == "length"
    assert pieces[-1].usage == Usage(5, 2)


async def test_a_role_marker_split_between_pieces_is_withheld():
    assert said(await shaped(Speaker("Yes.<|im", "_e", "nd|> Good"))) == "Yes. Good"


async def test_text_that_only_looks_like_a_marker_is_said_in_the_end():
    assert said(await shaped(Speaker("a <|im", "possible thing", " <|"))) == "a <|impossible thing <|"


async def test_leading_whitespace_is_trimmed_over_several_pieces():
    assert said(await shaped(Speaker(" \n", " ", " Hi there"))) == "Hi there"


async def test_the_reply_ends_at_a_stop_string_and_the_backend_is_closed():
    speaker = Speaker("one ST", "OP two", " three")
    pieces = await shaped(speaker, stop=["STOP"])
    assert said(pieces) == "one "
    assert pieces[-1].finish_reason == "stop"
    assert speaker.closed


async def test_what_no_database_keeps_is_not_said():
    assert said(await shaped(Speaker("Hel\0lo", "\ud800", " you"))) == "Hello you"
    assert said(await shaped(Speaker("\0", "\0"))) == NO_ANSWER


async def test_a_reply_without_text_says_that_the_model_gave_none():
    for speaker in (Speaker(), Speaker("<|im_end|>"), Speaker("  ", "\n")):
        assert said(await shaped(speaker)) == NO_ANSWER


async def test_a_stream_without_a_single_piece_is_a_failure_of_the_backend():
    async def nothing():
        for _ in ():
            yield

    with pytest.raises(BackendError):
        [piece async for piece in Bouche().shape(nothing())]
