from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mongars.training.config import MNTPConfig
from mongars.training.data.sampler import RowRef, global_batch, micro_batches, worker_share


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


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 7), st.integers(1, 7))
def test_a_step_that_workers_cannot_share_equally_has_neither_a_gap_nor_an_empty_pass(
    rows: int, batch_rows: int, world: int, micro_rows: int
):
    try:
        config = MNTPConfig(batch_rows=batch_rows, workers=world, micro_rows=micro_rows)
    except ValidationError:
        return  # too few rows
    lengths = [7 * row % 11 for row in range(rows)]
    shares = [worker_share(config, 3, lengths, rank) for rank in range(world)]
    assert {len(share) for share in shares} == {config.accumulation}
    assert {len(own) for share in shares for own in share} <= set(range(1, micro_rows + 1))
    places = global_batch(3, rows=rows, batch_rows=batch_rows, seed=0)
    assert Counter(place for share in shares for own in share for place in own) == Counter(places)


def test_workers_have_about_as_many_tokens():
    lengths = [5, 1, 8, 3, 7, 2, 6, 4]
    places = [RowRef(row, 0) for row in range(8)]
    shares = [micro_batches(places, lengths, rank=rank, world=2, micro_rows=4)[0] for rank in range(2)]
    assert [[lengths[place.row] for place in share] for share in shares] == [[1, 4, 5, 8], [2, 3, 6, 7]]


def test_epochs_have_orders_of_their_own():
    first = [place.row for place in global_batch(0, rows=20, batch_rows=20, seed=0)]
    second = [place.row for place in global_batch(1, rows=20, batch_rows=20, seed=0)]
    assert first != second


@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 20), st.integers(0, 3))
def test_a_run_that_goes_on_with_other_workers_sees_every_row_of_an_epoch_once(
    rows: int, share: int, stopped_after: int, seed: int
):
    """Six rows a worker or two: world_sizes of 2 and of 3 share the same batch."""
    batch_rows = 6 * share
    seen: Counter[tuple[int, int]] = Counter()
    for step in range(-(-2 * rows // batch_rows)):
        world = 2 if step < stopped_after else 3
        places = global_batch(step, rows=rows, batch_rows=batch_rows, seed=seed)
        for rank in range(world):
            for own in micro_batches(places, [1] * rows, rank=rank, world=world, micro_rows=share):
                seen.update((place.epoch, place.row) for place in own)
    assert {place: count for place, count in seen.items() if place[0] < 2} == {
        (epoch, row): 1 for epoch in (0, 1) for row in range(rows)
    }
