from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mongars.training.config import MNTPConfig
from mongars.training.data.sampler import RowRef, global_batch, micro_batches, worker_batches


@given(st.integers(1, 40), st.integers(1, 16), st.integers(0, 3))
def test_every_epoch_sees_every_row_once(rows: int, batch_rows: int, seed: int):
    steps = -(-2 * rows // batch_rows)
    refs = [
        ref for step in range(steps) for ref in global_batch(step, rows=rows, batch_rows=batch_rows, seed=seed)
    ]
    for epoch in (0, 1):
        assert Counter(ref.row for ref in refs if ref.epoch == epoch) == Counter(range(rows))


def test_the_rows_of_a_step_have_their_known_value():
    """Another order would change every adapter that the same recipe gives."""
    refs = global_batch(2, rows=10, batch_rows=4, seed=3)
    assert [(ref.row, ref.epoch) for ref in refs] == [(3, 0), (8, 0), (4, 1), (1, 1)]


@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_workers_split_a_step_without_gaps_or_repeats(rows: int, world: int, passes: int, micro_rows: int):
    refs = global_batch(3, rows=rows, batch_rows=world * passes * micro_rows, seed=0)
    lengths = [7 * row % 11 for row in range(rows)]
    shares = [micro_batches(refs, lengths, rank=rank, world=world, micro_rows=micro_rows) for rank in range(world)]
    assert all(len(share) == passes for share in shares)
    assert Counter(ref for share in shares for own in share for ref in own) == Counter(refs)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 7), st.integers(1, 7))
def test_an_uneven_split_of_a_step_has_no_gap_and_no_empty_pass(
    rows: int, batch_rows: int, world: int, micro_rows: int
):
    try:
        config = MNTPConfig(batch_rows=batch_rows, workers=world, micro_rows=micro_rows)
    except ValidationError:
        return  # too few rows
    lengths = [7 * row % 11 for row in range(rows)]
    shares = [worker_batches(config, 3, lengths, rank) for rank in range(world)]
    assert {len(share) for share in shares} == {config.accumulation}
    assert {len(own) for share in shares for own in share} <= set(range(1, micro_rows + 1))
    refs = global_batch(3, rows=rows, batch_rows=batch_rows, seed=0)
    assert Counter(ref for share in shares for own in share for ref in own) == Counter(refs)


def test_workers_get_similar_numbers_of_tokens():
    lengths = [5, 1, 8, 3, 7, 2, 6, 4]
    refs = [RowRef(row, 0) for row in range(8)]
    shares = [micro_batches(refs, lengths, rank=rank, world=2, micro_rows=4)[0] for rank in range(2)]
    assert [[lengths[ref.row] for ref in share] for share in shares] == [[1, 4, 5, 8], [2, 3, 6, 7]]


def test_each_epoch_has_its_own_order():
    first = [ref.row for ref in global_batch(0, rows=20, batch_rows=20, seed=0)]
    second = [ref.row for ref in global_batch(1, rows=20, batch_rows=20, seed=0)]
    assert first != second


@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 20), st.integers(0, 3))
def test_a_run_resumed_with_other_workers_sees_every_row_of_an_epoch_once(
    rows: int, share: int, stopped_after: int, seed: int
):
    """The batch is a multiple of six, so two and three workers split it evenly."""
    batch_rows = 6 * share
    seen: Counter[tuple[int, int]] = Counter()
    for step in range(-(-2 * rows // batch_rows)):
        world = 2 if step < stopped_after else 3
        refs = global_batch(step, rows=rows, batch_rows=batch_rows, seed=seed)
        for rank in range(world):
            for own in micro_batches(refs, [1] * rows, rank=rank, world=world, micro_rows=share):
                seen.update((ref.epoch, ref.row) for ref in own)
    assert {item: count for item, count in seen.items() if item[0] < 2} == {
        (epoch, row): 1 for epoch in (0, 1) for row in range(rows)
    }
