"""Intervals against a plain loop over resamples, against known values and against a normal mean."""

import tracemalloc

import numpy as np
import pytest

from mongars.errors import InputError
from mongars.evaluation import bootstrap
from mongars.evaluation.bootstrap import ratio_estimate


def conversations(units, seed=1):
    """Differences of loss summed by conversation, and the number of targets in each."""
    random = np.random.default_rng(seed)
    targets = random.geometric(1 / 40, units).astype(float)
    return targets * random.normal(-0.02, 0.3, units), targets


def plain_interval(numerators, denominators, *, resamples, seed, confidence):
    """The percentile bootstrap, one resample at a time."""
    random, units = np.random.default_rng(seed), numerators.size
    ratios = []
    for _ in range(resamples):
        drawn = random.integers(0, units, units)
        ratios.append(numerators[drawn].sum() / denominators[drawn].sum())
    tail = (1 - confidence) / 2
    return np.quantile(ratios, [tail, 1 - tail])


@pytest.mark.parametrize("units", [2, 30, 500])
@pytest.mark.parametrize("block", [1, 1000, bootstrap.INDICES_PER_BLOCK])
def test_interval_equals_a_plain_loop_whatever_the_block_size(monkeypatch, units, block):
    monkeypatch.setattr(bootstrap, "INDICES_PER_BLOCK", block)
    sample, options = conversations(units), {"resamples": 250, "seed": 7, "confidence": 0.9}
    found = ratio_estimate(*sample, **options)
    assert found.value == pytest.approx(sample[0].sum() / sample[1].sum(), rel=1e-12)
    assert [found.low, found.high] == pytest.approx(plain_interval(*sample, **options), rel=1e-12)


def test_interval_of_fixed_data_and_seed_has_its_known_value():
    """Values of the implementation before scipy's: a change of them changes what the gate decides."""
    found = ratio_estimate(*conversations(100))
    assert (found.value, found.low, found.high) == pytest.approx(
        (-0.03836921981994894, -0.1241720330608522, 0.04913498533084582), abs=1e-12
    )


def test_memory_does_not_grow_with_the_resamples():
    sample = conversations(10_000)
    ratio_estimate(*sample, resamples=1)  # scipy is imported
    tracemalloc.start()
    try:
        ratio_estimate(*sample)  # 160 MB of indices in all
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * 8 * bootstrap.INDICES_PER_BLOCK


def test_higher_confidence_is_wider_and_a_seed_repeats_the_interval():
    sample = conversations(50)
    ninety, ninety_nine = (ratio_estimate(*sample, confidence=share) for share in (0.9, 0.99))
    assert ninety_nine.low < ninety.low < ninety.value < ninety.high < ninety_nine.high
    assert ratio_estimate(*sample, seed=3) == ratio_estimate(*sample, seed=3)
    assert ratio_estimate(*sample, seed=3) != ratio_estimate(*sample, seed=4)


def test_units_are_weighted_by_their_denominators():
    assert ratio_estimate(np.array([-90.0, 10.0]), np.array([90.0, 10.0])).value == pytest.approx(-0.8)


def test_a_single_unit_has_an_interval_of_width_zero():
    found = ratio_estimate(np.array([3.0]), np.array([4.0]))
    assert (found.value, found.low, found.high) == (0.75, 0.75, 0.75)


@pytest.mark.parametrize(
    ("numerators", "denominators"),
    [([], []), ([1.0], [1.0, 2.0]), ([[1.0]], [[1.0]]), ([np.nan], [1.0]), ([1.0], [0.0]), ([1.0], [np.inf])],
)
def test_input_without_a_ratio_is_refused(numerators, denominators):
    with pytest.raises(InputError):
        ratio_estimate(np.array(numerators), np.array(denominators))
