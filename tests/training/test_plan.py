from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mongars.training.plan import global_batch, micro_batches


@given(st.integers(1, 40), st.integers(1, 16), st.integers(0, 3))
def test_every_epoch_sees_every_row_once(rows: int, batch_rows: int, seed: int):
    steps = -(-2 * rows // batch_rows)
    places = [
        place for step in range(steps) for place in global_batch(step, rows=rows, batch_rows=batch_rows, seed=seed)
    ]
    for epoch in (0, 1):
        assert Counter(place.row for place in places if place.epoch == epoch) == Counter(range(rows))


@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_workers_share_a_step_without_a_gap_or_a_repeat(rows: int, world: int, passes: int, micro_rows: int):
    places = global_batch(3, rows=rows, batch_rows=world * passes * micro_rows, seed=0)
    lengths = [7 * row % 11 for row in range(rows)]
    shares = [
        micro_batches(places, lengths, rank=rank, world=world, micro_rows=micro_rows) for rank in range(world)
    ]
    assert all(len(share) == passes for share in shares)
    assert Counter(place for share in shares for own in share for place in own) == Counter(places)


def test_epochs_have_orders_of_their_own():
    first = [place.row for place in global_batch(0, rows=20, batch_rows=20, seed=0)]
    second = [place.row for place in global_batch(1, rows=20, batch_rows=20, seed=0)]
    assert first != second
