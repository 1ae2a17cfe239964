"""Finds phrases in text that arrives in pieces: withholds some, stops at others.

Owns the matching only. Must not know models, pieces of generation, or who is talking.
The outcome depends on the characters alone, never on where the pieces were cut.
"""

from collections.abc import Iterable


class PhraseFilter:
    """Passes text on, without `withheld` phrases, up to the first of the `stops`.

    Text that may still become a phrase is held back until it is decided. What was passed on never
    contains a withheld phrase, not even one that removing another would have joined together.
    """

    def __init__(self, *, withheld: Iterable[str] = (), stops: Iterable[str] = ()) -> None:
        self._withheld = frozenset(phrase for phrase in withheld if phrase)
        self._stops = frozenset(phrase for phrase in stops if phrase)
        phrases = self._withheld | self._stops
        self._prefixes = frozenset(phrase[:end] for phrase in phrases for end in range(len(phrase)))
        self._longest = max(map(len, phrases), default=0)
        self._held = ""
        self._tail = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """Take the next piece; return what can be passed on now (often less, sometimes nothing)."""
        passed: list[str] = []
        for character in text:
            if self.stopped:
                break
            self._held += character
            self._settle(passed, final=False)
        return "".join(passed)

    def finish(self) -> str:
        """Return what was held back and turned out to be plain text."""
        passed: list[str] = []
        if not self.stopped:
            self._settle(passed, final=True)
        return "".join(passed)

    def _settle(self, passed: list[str], *, final: bool) -> None:
        while self._held and not self.stopped and (final or self._held not in self._prefixes):
            phrase = self._phrase_at_start()
            if phrase is None:
                self._pass_on(self._held[0], passed)
                self._held = self._held[1:]
            elif phrase in self._stops:
                self.stopped, self._held = True, ""
            else:
                self._held = self._held[len(phrase) :]

    def _phrase_at_start(self) -> str | None:
        for length in range(min(self._longest, len(self._held)), 0, -1):
            if self._held[:length] in self._withheld or self._held[:length] in self._stops:
                return self._held[:length]
        return None

    def _pass_on(self, character: str, passed: list[str]) -> None:
        joined = self._tail + character
        if any(joined.endswith(phrase) for phrase in self._withheld):
            return
        passed.append(character)
        self._tail = joined[-self._longest :] if self._longest else ""
