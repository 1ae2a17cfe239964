"""Finds phrases in text that arrives in pieces: removes some, stops at others.

The result depends only on the characters, never on how the text was cut into pieces.
"""

from collections.abc import Iterable


class PhraseFilter:
    """Passes text without the `withheld` phrases, up to the first of the `stops`.

    Text that may still become a phrase is buffered until it is decided. The passed text never contains a withheld
    phrase, not even one that appears when another is removed.
    """

    def __init__(self, *, withheld: Iterable[str] = (), stops: Iterable[str] = ()) -> None:
        self._withheld = frozenset(phrase for phrase in withheld if phrase)
        self._stops = frozenset(phrase for phrase in stops if phrase)
        self._phrases = tuple(self._withheld | self._stops)
        self._first_characters = frozenset(phrase[0] for phrase in self._phrases)
        self._longest = max(map(len, self._phrases), default=0)
        self._buffer = ""
        self._tail = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """Add the next piece; return the text that is decided, often less than it, sometimes none."""
        passed: list[str] = []
        for character in text:
            if self.stopped:
                break
            self._buffer += character
            self._decide(passed, final=False)
        return "".join(passed)

    def finish(self) -> str:
        """Return the buffered text that is no phrase."""
        passed: list[str] = []
        if not self.stopped:
            self._decide(passed, final=True)
        return "".join(passed)

    def _decide(self, passed: list[str], *, final: bool) -> None:
        while self._buffer and not self.stopped and (final or not self._may_become_a_phrase()):
            phrase = self._phrase_at_start()
            if phrase is None:
                self._pass_on(self._buffer[0], passed)
                self._buffer = self._buffer[1:]
            elif phrase in self._stops:
                self.stopped, self._buffer = True, ""
            else:
                self._buffer = self._buffer[len(phrase) :]

    def _may_become_a_phrase(self) -> bool:
        # No set of all prefixes: its size would be the square of a phrase's length, which a client may choose.
        return self._buffer[0] in self._first_characters and any(
            len(phrase) > len(self._buffer) and phrase.startswith(self._buffer) for phrase in self._phrases
        )

    def _phrase_at_start(self) -> str | None:
        for length in range(min(self._longest, len(self._buffer)), 0, -1):
            if self._buffer[:length] in self._withheld or self._buffer[:length] in self._stops:
                return self._buffer[:length]
        return None

    def _pass_on(self, character: str, passed: list[str]) -> None:
        joined = self._tail + character
        if any(joined.endswith(phrase) for phrase in self._withheld):
            return
        passed.append(character)
        self._tail = joined[-self._longest :] if self._longest else ""
