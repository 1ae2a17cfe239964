"""Personal data in texts: detection, types and replacement.

`find_pii` returns the spans, `replace` the text without them. Each detector module covers one group of forms;
`detection` decides their order and resolves overlaps. To add a detector, write such a module and register it
there.
"""

from mongars.curation.pii.detection import find_pii
from mongars.curation.pii.replacement import Mode, redact, replace
from mongars.curation.pii.spans import PiiType, Span

__all__ = ["Mode", "PiiType", "Span", "find_pii", "redact", "replace"]
