"""Bouche, the mouth: shapes what the model generates into what is said to the user.

Owns the last word on the text of a reply. Must not know backends, HTTP or memory. It covers form only:
chat-role markers, surrounding whitespace, stop strings, silence, and what is no text. It does not judge what is
said.
"""

import dataclasses
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from mongars.conversation.phrases import PhraseFilter
from mongars.errors import BackendError
from mongars.records import AdapterStamp, GenerationPiece

# Control tokens of the chat templates of ChatML, Llama 2 and 3, Gemma, Phi and Zephyr. They frame the
# prompt; in a reply they are a leak. A list by hand: a family that is not in it is not covered.
ROLE_MARKERS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<|endoftext|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<</SYS>>",
    "<s>",
    "</s>",
)
NO_ANSWER = "The model gave no answer."


class Bouche:
    """Shapes a stream of pieces. One instance serves any number of streams at once."""

    def __init__(self, *, markers: Sequence[str] = ROLE_MARKERS) -> None:
        self._markers = tuple(markers)

    async def shape(
        self, pieces: AsyncGenerator[GenerationPiece, None], *, stop: Sequence[str] = ()
    ) -> AsyncGenerator[GenerationPiece, None]:
        """Yield the pieces as they may be said; the last one carries `finish_reason`.

        Role markers are withheld, leading whitespace is trimmed, and the reply ends at the first of the
        `stop` strings (the backend is then closed, and its usage stays unknown). A reply without any
        text says NO_ANSWER, so that silence is never mistaken for a reply. Raises BackendError for a stream
        without any piece, and what the backend raises.
        """
        said = _Said(PhraseFilter(withheld=self._markers, stops=stop))
        stamp: AdapterStamp | None = None
        last: GenerationPiece | None = None
        async with aclosing(pieces):
            async for piece in pieces:
                stamp, last = piece.stamp, piece
                text = said.add(piece.text)
                if text:
                    yield GenerationPiece(text=text, stamp=stamp)
                if said.stopped or piece.finish_reason:
                    break
        if stamp is None or last is None:
            raise BackendError("The model's stream ended without a single piece.", remedy="Try again.")
        text = said.rest()
        ending = NO_ANSWER if not said.anything else text
        reason = "stop" if said.stopped else last.finish_reason
        yield dataclasses.replace(last, text=ending, finish_reason=reason or "stop")


class _Said:
    """What one reply has said so far."""

    def __init__(self, phrases: PhraseFilter) -> None:
        self._phrases = phrases
        self.anything = False

    @property
    def stopped(self) -> bool:
        return self._phrases.stopped

    def add(self, text: str) -> str:
        return self._trim(self._phrases.feed(_sayable(text)))

    def rest(self) -> str:
        return self._trim(self._phrases.finish())

    def _trim(self, text: str) -> str:
        shown = text if self.anything else text.lstrip()
        self.anything = self.anything or bool(shown)
        return shown


def _sayable(text: str) -> str:
    """Leave out NUL and lone surrogates: a model can emit them, but neither UTF-8 nor a database keeps them."""
    return text.replace("\0", "").encode("utf-8", "ignore").decode("utf-8")
