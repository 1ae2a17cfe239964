"""A fixture for the tests of the detectors."""

import pytest

from mongars.curation.pii import find_pii


@pytest.fixture
def found():
    """Return a function that returns the types and values of the spans found in a text, in order."""

    def find(text):
        return [(span.type.name, text[span.start : span.end]) for span in find_pii(text)]

    return find
