"""Bouche, the mouth: turns what a model generates into the text that a user sees.

It checks the form of a reply only, never its content: role markers of chat templates, leading whitespace, stop
strings of backends that do not guarantee them, empty replies, and characters that no database stores.
"""

import dataclasses
from collections.abc import Sequence

from mongars.conversation.phrases import PhraseFilter
from mongars.errors import BackendError
from mongars.records import GenerationPiece

# Control tokens of the chat templates of ChatML, Llama 2 and 3, Gemma, Phi and Zephyr. They frame the prompt; in a
# reply they are a leak. The list is kept by hand and covers only these model families.
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
    """Starts the replies of any number of streams at once."""

    def __init__(self, *, markers: Sequence[str] = ROLE_MARKERS) -> None:
        self._markers = tuple(markers)

    def reply(self, *, stop: Sequence[str] = ()) -> "Reply":
        """Return an empty reply that ends at the first of the `stop` strings."""
        return Reply(PhraseFilter(withheld=self._markers, stops=stop))


class Reply:
    """One reply: `add` the pieces of a model's stream until `is_complete`, then `finish`."""

    def __init__(self, phrases: PhraseFilter) -> None:
        self._phrases = phrases
        self._last: GenerationPiece | None = None
        self.is_empty = True

    @property
    def is_complete(self) -> bool:
        """Return whether the model has finished or a stop string was found."""
        return self._phrases.stopped or bool(self._last and self._last.finish_reason)

    def add(self, piece: GenerationPiece) -> str:
        """Return the text to show after one more piece, often less than it has, sometimes none."""
        self._last = piece
        return self._trim(self._phrases.feed(_storable(piece.text)))

    def finish(self) -> GenerationPiece:
        """Return the last piece to show, with `finish_reason` and, unless a stop string was found, usage.

        An empty reply says NO_ANSWER, so that a client never mistakes silence for a reply. Raises BackendError
        when no piece was added.
        """
        if self._last is None:
            raise BackendError("The model's stream ended without a single piece.", remedy="Try again.")
        text = self._trim(self._phrases.finish())
        reason = "stop" if self._phrases.stopped else self._last.finish_reason
        return dataclasses.replace(
            self._last, text=NO_ANSWER if self.is_empty else text, finish_reason=reason or "stop"
        )

    def _trim(self, text: str) -> str:
        shown = text.lstrip() if self.is_empty else text
        self.is_empty = self.is_empty and not shown
        return shown


def _storable(text: str) -> str:
    """Drop NUL and lone surrogates: a model can emit them, but neither UTF-8 nor a database stores them."""
    return text.replace("\0", "").encode("utf-8", "ignore").decode("utf-8")
