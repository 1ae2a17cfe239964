"""Personal data in a text: found, typed, and replaced.

`find_pii` gives the spans, `replace` the text without them. Each module owns one group of forms and yields
candidates that a library or a checksum has passed; `detection` owns their order and what happens where they
overlap. No module here knows conversations, files or Ray.
"""

from mongars.curation.pii.detection import find_pii
from mongars.curation.pii.replacement import Mode, redact, replace
from mongars.curation.pii.spans import PiiType, Span

__all__ = ["Mode", "PiiType", "Span", "find_pii", "redact", "replace"]
