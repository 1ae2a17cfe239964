"""The redaction of a file of texts, for `mongars redact`.

Pseudonyms depend on the line's id: a value has the same pseudonym in all lines of one id, and another in other
ids.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mongars.curation.pii import Mode, Span, find_pii, replace
from mongars.curation.pii.pseudonyms import Pseudonyms, subject_id
from mongars.formats.jsonl import BadLine, Text

Find = Callable[[str], Iterator[Span]]


@dataclass(slots=True)
class Redaction:
    """Redacts texts and counts lines, spans by type and bad lines.

    `secret` keys the pseudonyms, `known` are values to find in any form, `find_names` finds person names.
    """

    mode: Mode
    secret: bytes = field(repr=False)
    known: Sequence[str] = field(default=(), repr=False)
    find_names: Find | None = None
    texts: int = 0
    bad_lines: int = 0
    spans: dict[str, int] = field(default_factory=dict)

    def lines(
        self, items: Iterable[Text | BadLine], on_bad: Callable[[BadLine], None]
    ) -> Iterator[dict[str, Any]]:
        """Yield `{"id", "text", "spans": [{"start", "end", "type", "score"}]}` for each text, in order.

        Offsets count characters of the original text. A bad line is passed to `on_bad` and yields nothing.
        """
        for item in items:
            if isinstance(item, BadLine):
                self.bad_lines += 1
                on_bad(item)
            else:
                yield self._line(item)

    def _line(self, item: Text) -> dict[str, Any]:
        spans = find_pii(item.text, self.known, self.find_names)
        pseudonyms = Pseudonyms(self.secret, subject_id(self.secret, item.id))
        self.texts += 1
        for span in spans:
            self.spans[str(span.type)] = self.spans.get(str(span.type), 0) + 1
        return {
            "id": item.id,
            "text": replace(item.text, spans, self.mode, pseudonyms),
            "spans": [
                {"start": span.start, "end": span.end, "type": str(span.type), "score": round(span.score, 3)}
                for span in spans
            ],
        }
