import pytest
from pydantic import ValidationError

from mongars.training.config import MNTPConfig


def test_the_defaults_are_the_recipe_of_llm2vec():
    config = MNTPConfig()
    assert (config.lora_rank, config.lora_alpha, config.lora_dropout) == (16, 32, 0.05)
    assert (config.learning_rate, config.mask_share, config.clip_norm) == (5e-5, 0.2, 1.0)
    assert (config.max_tokens, config.batch_rows, config.steps) == (512, 32, 1000)


def test_an_unknown_knob_is_refused():
    with pytest.raises(ValidationError, match="learning_rat"):
        MNTPConfig(learning_rat=1e-3)


@pytest.mark.parametrize(
    "knobs",
    [{"batch_rows": 9, "workers": 2}, {"batch_rows": 8, "workers": 2, "micro_rows": 3}, {"random_share": 0.3}],
)
def test_knobs_that_contradict_each_other_are_refused(knobs: dict):
    with pytest.raises(ValidationError):
        MNTPConfig(**knobs)


def test_passes_workers_and_rows_make_up_the_batch():
    config = MNTPConfig(batch_rows=24, workers=2, micro_rows=4)
    assert config.accumulation * config.workers * config.micro_batch == config.batch_rows


def test_the_recipe_digest_changes_with_any_knob_and_with_nothing_else():
    assert MNTPConfig().recipe_digest() == MNTPConfig(seed=0).recipe_digest()
    assert MNTPConfig().recipe_digest() != MNTPConfig(seed=1).recipe_digest()
