import tracemalloc
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mongars.conversation.bouche import ROLE_MARKERS
from mongars.conversation.phrases import PhraseFilter

FRAGMENTS = st.lists(
    st.one_of(st.sampled_from([*ROLE_MARKERS, "<|im_", "start|>", "<", "[IN", "ST]"]), st.text(max_size=6)),
    max_size=12,
).map("".join)


@given(FRAGMENTS, st.lists(st.integers(0, 100), max_size=8))
def test_the_passed_text_is_independent_of_cuts_and_has_no_marker(text, cuts):
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    whole, cut = PhraseFilter(withheld=ROLE_MARKERS), PhraseFilter(withheld=ROLE_MARKERS)
    expected = whole.feed(text) + whole.finish()
    passed = "".join(cut.feed(text[a:b]) for a, b in pairwise(edges)) + cut.finish()
    assert passed == expected
    assert not any(marker in passed for marker in ROLE_MARKERS)


def test_a_long_stop_string_takes_memory_in_proportion_to_its_length():
    tracemalloc.start()
    PhraseFilter(stops=["x" * 20_000])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@given(st.text(alphabet="ab<|", max_size=30))
def test_text_up_to_the_first_stop_string_passes_unchanged(text):
    phrases = PhraseFilter(stops=["ab<", "b|"])
    passed = phrases.feed(text) + phrases.finish()
    ends = [text.find(stop) for stop in ("ab<", "b|") if stop in text]
    assert passed == (text[: min(ends)] if ends else text)
    assert phrases.stopped == bool(ends)
