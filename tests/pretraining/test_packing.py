import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mongars.pretraining.packing import order, pack

documents = st.lists(st.lists(st.integers(0, 8191), min_size=1, max_size=30), max_size=12)


@given(documents, st.integers(2, 16))
def test_the_rows_are_the_stream_of_documents_but_for_an_incomplete_row(texts: list[list[int]], context: int):
    stream = [token for ids in texts for token in ids]
    rows = pack(texts, context)
    assert rows.dtype == np.int32
    assert rows.shape == (len(stream) // context, context)
    assert rows.ravel().tolist() == stream[: rows.size]


@given(st.integers(0, 2**62), st.integers(0, 2**31))
def test_a_place_in_the_order_fits_a_signed_column(key: int, seed: int):
    assert 0 <= order(seed, key) < 2**63


def test_the_order_depends_on_the_seed_and_is_none_of_the_keys():
    keys = range(500)
    first, second = (sorted(keys, key=lambda key: order(seed, key)) for seed in (0, 1))
    assert first != second
    assert first != list(keys)
    assert len({order(0, key) for key in keys}) == len(keys)
