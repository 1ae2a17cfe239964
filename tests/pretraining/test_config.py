import pytest
from pydantic import ValidationError

from mongars.pretraining.config import PretrainConfig


def test_the_rate_rises_stays_and_falls_to_nothing(tiny: PretrainConfig):
    config = tiny.model_copy(update={"learning_rate": 1.0})
    rates = [config.rate(step) for step in range(config.steps)]
    assert rates == [0.5, 1.0, *[1.0] * 6, 1.0, 0.75, 0.5, 0.25]


def test_before_its_decay_a_longer_run_is_the_same_run(tiny: PretrainConfig):
    longer = tiny.model_copy(update={"steps": 30})
    same = [tiny.rate(step) == longer.rate(step) for step in range(tiny.steps)]
    assert same[: tiny.decay_starts + 1] == [True] * (tiny.decay_starts + 1)
    assert not any(same[tiny.decay_starts + 1 :])
    assert longer.run_digest() == tiny.run_digest()
    assert tiny.model_copy(update={"seed": 1}).run_digest() != tiny.run_digest()


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"workers": 3}, "no multiple of workers 3"),
        ({"heads": 5}, "no even multiple of heads 5"),
        ({"warmup_steps": 10}, "more than steps"),
        ({"checkpoint_steps": 3}, "multiples of report_steps"),
    ],
)
def test_knobs_that_do_not_fit_each_other_are_refused(tiny: PretrainConfig, knobs: dict[str, int], told: str):
    with pytest.raises(ValidationError, match=told):
        PretrainConfig(**(tiny.model_dump() | knobs))
