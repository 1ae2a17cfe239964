"""The bootstrap: against a plain loop, and against what is known of a normal mean."""

import tracemalloc

import numpy as np
import pytest

from mongars.errors import InputError
from mongars.evaluation import bootstrap
from mongars.evaluation.bootstrap import ratio_estimate


def sample(units, seed=1):
    random = np.random.default_rng(seed)
    return random.normal(2, 1, units), random.integers(1, 9, units).astype(float)


@pytest.mark.parametrize("drawn_at_once", [1, 100, 1 << 20])
def test_blocks_of_any_size_give_what_one_resample_at_a_time_gives(monkeypatch, drawn_at_once):
    monkeypatch.setattr(bootstrap, "DRAWN_AT_ONCE", drawn_at_once)
    numerators, denominators = sample(30)
    random = np.random.default_rng(7)
    ratios = []
    for _ in range(250):
        drawn = random.integers(0, 30, 30)
        ratios.append(numerators[drawn].sum() / denominators[drawn].sum())
    found = ratio_estimate(numerators, denominators, resamples=250, seed=7, confidence=0.9)
    assert found.value == pytest.approx(numerators.sum() / denominators.sum())
    assert [found.low, found.high] == pytest.approx(np.quantile(ratios, [0.05, 0.95]))


def test_memory_does_not_grow_with_the_resamples():
    numerators, denominators = sample(10_000)
    tracemalloc.start()
    try:
        ratio_estimate(numerators, denominators)  # all at once would be 160 MB of places alone
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * 8 * bootstrap.DRAWN_AT_ONCE


def test_a_surer_interval_is_wider_and_its_seed_repeats_it():
    ninety, ninety_nine = (ratio_estimate(*sample(50), confidence=share) for share in (0.9, 0.99))
    assert ninety_nine.low < ninety.low < ninety.value < ninety.high < ninety_nine.high
    assert ratio_estimate(*sample(50), seed=3) == ratio_estimate(*sample(50), seed=3)
    assert ratio_estimate(*sample(50), seed=3) != ratio_estimate(*sample(50), seed=4)


def test_units_weigh_by_their_denominators():
    assert ratio_estimate(np.array([-90.0, 10.0]), np.array([90.0, 10.0])).value == pytest.approx(-0.8)


@pytest.mark.parametrize(
    ("numerators", "denominators"),
    [([], []), ([1.0], [1.0, 2.0]), ([[1.0]], [[1.0]]), ([np.nan], [1.0]), ([1.0], [0.0]), ([1.0], [np.inf])],
)
def test_what_has_no_ratio_is_refused(numerators, denominators):
    with pytest.raises(InputError):
        ratio_estimate(np.array(numerators), np.array(denominators))
