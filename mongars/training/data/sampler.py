"""The rows of each training step, for any number of workers.

The stream of rows is one seeded permutation per epoch. Step g takes the items [g*B, (g+1)*B) of the stream, so the
step is the only cursor, and its rows do not depend on the number of workers.
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


def worker_batches(config: AdapterRecipe, step: int, lengths: Sequence[int], rank: int) -> list[list[RowRef]]:
    """Return a worker's rows of a step, a list for each forward pass; `lengths` are those of all rows."""
    refs = global_batch(step, rows=len(lengths), batch_rows=config.batch, seed=config.seed)
    return micro_batches(refs, lengths, rank=rank, world=config.workers, micro_rows=config.micro_batch)


def global_batch(step: int, *, rows: int, batch_rows: int, seed: int) -> list[RowRef]:
    """Return the rows of a step (from 0). A batch may span two epochs."""
    items = range(step * batch_rows, (step + 1) * batch_rows)
    return [RowRef(int(_order(rows, seed, item // rows)[item % rows]), item // rows) for item in items]


def micro_batches(
    refs: Sequence[RowRef], lengths: Sequence[int], *, rank: int, world: int, micro_rows: int
) -> list[list[RowRef]]:
    """Return a worker's part of a step, cut into forward passes of rows of similar length (less padding).

    All workers have the same number of passes, each of at most `micro_rows` rows, because an engine may
    synchronise in each pass. A step takes as long as the worker with the most tokens, so rows are dealt out by
    length in serpentine order: the direction changes with every round.
    """
    by_length = sorted(refs, key=lambda ref: (lengths[ref.row], ref.epoch, ref.row))
    rounds = [by_length[start : start + world] for start in range(0, len(by_length), world)]
    dealt = [each[::-1] if index % 2 and len(each) == world else each for index, each in enumerate(rounds)]
    own = [each[rank] for each in dealt if rank < len(each)]
    passes = -(-len(rounds) // micro_rows)
    cuts = [len(own) * cut // passes for cut in range(passes + 1)]
    return [own[start:end] for start, end in pairwise(cuts)]


@lru_cache(maxsize=2)  # a step spans at most two epochs, unless an epoch is shorter than a batch
def _order(rows: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(rows)
