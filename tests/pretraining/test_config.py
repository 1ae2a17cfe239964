import pytest
from pydantic import ValidationError

from mongars.pretraining.config import PretrainConfig


def test_the_learning_rate_rises_stays_constant_and_decays(tiny: PretrainConfig):
    config = tiny.model_copy(update={"learning_rate": 1.0})
    rates = [config.rate(step) for step in range(config.steps)]
    assert rates == [0.5, 1.0, *[1.0] * 6, 1.0, 0.75, 0.5, 0.25]


def test_before_the_decay_a_longer_run_has_the_same_rates_and_digest(tiny: PretrainConfig):
    longer = tiny.model_copy(update={"steps": 30})
    same = [tiny.rate(step) == longer.rate(step) for step in range(tiny.steps)]
    assert same[: tiny.decay_starts + 1] == [True] * (tiny.decay_starts + 1)
    assert not any(same[tiny.decay_starts + 1 :])
    assert longer.run_digest() == tiny.run_digest()


def test_the_digest_of_the_default_run_has_its_known_value():
    """Another value would no longer find the prepared text and the checkpoint of a run."""
    assert PretrainConfig().run_digest() == "44ef2e89d5d05184415b645432809a73bf5903699566de9720df8eac4528bdc2"


@pytest.mark.parametrize("name", sorted(PretrainConfig.model_fields))
def test_every_field_changes_the_digest_except_end_and_checkpoint_interval(tiny: PretrainConfig, name: str):
    value = "bf16" if name == "precision" else getattr(tiny, name) + 1
    changed = tiny.model_copy(update={name: value})
    assert (changed.run_digest() == tiny.run_digest()) == (name in {"steps", "decay_steps", "checkpoint_steps"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 3}, "no multiple of workers 3"),
        ({"heads": 5}, "no even multiple of heads 5"),
        ({"warmup_steps": 10}, "more than steps"),
        ({"checkpoint_steps": 3}, "multiples of report_steps"),
    ],
)
def test_contradictory_options_are_refused(tiny: PretrainConfig, options: dict[str, int], message: str):
    with pytest.raises(ValidationError, match=message):
        PretrainConfig(**(tiny.model_dump() | options))
