"""What the tests of the detectors share."""

import pytest

from mongars.curation.pii import find_pii


@pytest.fixture
def found():
    """Return found(text) -> the types and values of what is found in it, in order."""

    def find(text):
        return [(span.type.name, text[span.start : span.end]) for span in find_pii(text)]

    return find
