"""Which rows a step trains on, for any number of workers.

Owns the order of the data. The stream is one seeded permutation of all rows per epoch, one epoch after the
other; step g takes its places [g*B, (g+1)*B), and each worker as many of them, of about as many tokens in all. So
the step alone is the cursor, and the rows of a step do not depend on the number of workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from mongars.training.config import AdapterRecipe


@dataclass(frozen=True, slots=True)
class RowRef:
    """A row, by its index, in one epoch."""

    row: int
    epoch: int


def worker_share(config: AdapterRecipe, step: int, lengths: Sequence[int], rank: int) -> list[list[RowRef]]:
    """Return one worker's places of a step, a list for each forward pass; `lengths` are those of all rows."""
    places = global_batch(step, rows=len(lengths), batch_rows=config.batch, seed=config.seed)
    return micro_batches(places, lengths, rank=rank, world=config.workers, micro_rows=config.micro_batch)


def global_batch(step: int, *, rows: int, batch_rows: int, seed: int) -> list[RowRef]:
    """Return the places of a step (from 0). A batch that ends an epoch goes on with the next one."""
    places = range(step * batch_rows, (step + 1) * batch_rows)
    return [RowRef(int(_order(rows, seed, at // rows)[at % rows]), at // rows) for at in places]


def micro_batches(
    places: Sequence[RowRef], lengths: Sequence[int], *, rank: int, world: int, micro_rows: int
) -> list[list[RowRef]]:
    """Return one worker's share of a step, cut into forward passes of rows of like length (less padding).

    Every worker has as many passes, of `micro_rows` rows at most: an engine may wait for all in each of them.
    A step waits for the worker with the most tokens, too, so they draw in turn from the shortest row to the
    longest, the first of a round being the last of the next. Every n-th row would give the last worker 1.05 times
    the mean, this 1.01 (two workers, steps of 16 conversations of Schema-Guided Dialogue).
    """
    by_length = sorted(places, key=lambda place: (lengths[place.row], place.epoch, place.row))
    rounds = [by_length[start : start + world] for start in range(0, len(by_length), world)]
    drawn = [each[::-1] if turn % 2 and len(each) == world else each for turn, each in enumerate(rounds)]
    own = [each[rank] for each in drawn if rank < len(each)]
    passes = -(-len(rounds) // micro_rows)
    cuts = [len(own) * cut // passes for cut in range(passes + 1)]
    return [own[start:end] for start, end in pairwise(cuts)]


@lru_cache(maxsize=2)  # a step spans two epochs at most, unless an epoch is shorter than a batch
def _order(rows: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(rows)
