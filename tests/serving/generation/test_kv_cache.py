"""The rows' memory: what it keeps when it grows and shrinks, and how much it holds."""

import pytest
import torch

from mongars.serving.generation.kv_cache import GROW_TOKENS, KVCache

HEADS, SIZE = 2, 4


def states(tokens: int, seed: int, rows: int = 1) -> torch.Tensor:
    return torch.randn(rows, HEADS, tokens, SIZE, generator=torch.Generator().manual_seed(seed))


def filled(cache: KVCache, row: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    keys, values = states(tokens, row), states(tokens, row + 100)
    cache.set_write_span(row, 1, 0, tokens)
    cache.update(keys, values, 0)
    return keys, values


def held(cache: KVCache, row: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a row holds: a pass of no token reads it."""
    cache.set_write_span(row, 1, tokens, tokens)
    return cache.update(states(0, 0), states(0, 0), 0)


def test_rows_keep_their_tokens_while_the_cache_grows_and_shrinks():
    cache = KVCache(grow_tokens=8)
    cache.reserve(2, 5)
    kept = [filled(cache, row, tokens) for row, tokens in enumerate((5, 3))]
    for rows, length in ((2, 60), (5, 60), (3, 7), (9, 40), (2, 5)):
        cache.reserve(rows, length)
        assert length <= cache.capacity
        for row, (expected, tokens) in enumerate(zip(kept, (5, 3), strict=True)):
            assert all(map(torch.equal, held(cache, row, tokens), expected))


@pytest.mark.parametrize(
    ("before", "length", "capacity"),
    [(0, 1, 8), (0, 9, 16), (8, 9, 16), (16, 8, 16), (24, 8, 8), (80, 64, 80), (88, 64, 64)],
)
def test_the_capacity_follows_the_longest_row_with_a_small_margin(before, length, capacity):
    cache = KVCache(grow_tokens=8)
    if before:
        cache.reserve(1, before)
    cache.reserve(1, length)
    assert cache.capacity == capacity


def test_rows_are_reserved_in_doubles_and_stay_until_the_cache_is_cleared():
    cache = KVCache()
    cache.reserve(3, 1)
    filled(cache, 0, 1)
    one = 2 * HEADS * SIZE * 4 * GROW_TOKENS
    assert cache.bytes == 4 * one
    cache.reserve(5, 1)
    assert cache.bytes == 8 * one
    cache.reserve(1, 1)
    assert cache.bytes == 8 * one
    cache.clear()
    assert (cache.bytes, cache.capacity) == (0, 0)
