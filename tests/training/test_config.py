import pytest
from pydantic import ValidationError

from mongars.errors import SettingsError
from mongars.training.config import RECIPES, ContrastiveConfig, MNTPConfig, config_from, stage_2_after


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
    [
        {"batch_rows": 2, "workers": 3},
        {"batch_rows": 8, "workers": 3, "micro_rows": 1},  # the last worker has two rows for three passes
        {"batch_rows": 8, "workers": 4, "min_workers": 1, "micro_rows": 1},  # and so of three, on the way
        {"workers": 2, "min_workers": 2},
        {"learning_rate": float("inf")},  # JSON of the command line knows it
        {"target_modules": []},
        {"random_share": 0.3},
    ],
)
def test_knobs_that_contradict_each_other_are_refused(knobs: dict):
    with pytest.raises(ValidationError):
        MNTPConfig(**knobs)


def test_passes_workers_and_rows_make_up_the_batch():
    config = MNTPConfig(batch_rows=24, workers=2, micro_rows=4)
    assert config.accumulation * config.workers * config.micro_batch == config.batch_rows


def test_rows_that_workers_cannot_share_equally_are_shared_as_equally_as_may_be():
    config = MNTPConfig(batch_rows=11, workers=3, micro_rows=3)
    assert (config.share, config.accumulation) == (4, 2)


def test_an_elastic_recipe_is_another_one_and_computes_as_the_workers_of_the_moment():
    fixed, elastic = MNTPConfig(workers=2), MNTPConfig(workers=2, min_workers=1)
    assert elastic.recipe_digest() != fixed.recipe_digest()
    assert "min_workers" not in fixed.model_dump(), "its digest is what it was before there were elastic runs"
    assert elastic.with_world_size(1) == MNTPConfig(workers=1)
    assert elastic.with_world_size(2) == fixed


def test_the_recipe_digest_changes_with_any_knob_and_with_nothing_else():
    assert MNTPConfig().recipe_digest() == MNTPConfig(seed=0).recipe_digest()
    assert MNTPConfig().recipe_digest() != MNTPConfig(seed=1).recipe_digest()


def test_how_often_a_run_is_kept_is_no_part_of_the_recipe():
    often = MNTPConfig(checkpoint_steps=1)
    assert often.recipe_digest() == MNTPConfig().recipe_digest()
    assert "checkpoint_steps" not in often.model_dump()


def test_knobs_of_the_command_line_are_json_values_over_the_default_recipe() -> None:
    config = config_from(MNTPConfig, ["steps=7", "learning_rate=0.002"])
    assert (config.steps, config.learning_rate, config.lora_rank) == (7, 0.002, MNTPConfig().lora_rank)


@pytest.mark.parametrize("knob", ["steps=0", "step=7", "steps", "steps=seven"])
def test_an_impossible_knob_is_refused_by_name(knob: str) -> None:
    with pytest.raises(SettingsError, match="step"):
        config_from(MNTPConfig, [knob])


def test_the_defaults_of_stage_2_are_simcse_as_llm2vec_trains_it():
    config = ContrastiveConfig()
    assert (config.pairs, config.dropout, config.temperature, config.learning_rate) == ("simcse", 0.3, 0.05, 3e-5)
    assert (config.lora_rank, config.lora_alpha, config.max_tokens, config.batch_pairs) == (16, 32, 128, 128)
    assert config.accumulation == 1


@pytest.mark.parametrize(
    "knobs",
    [
        {"micro_rows": 2},  # the negatives of a step go through the model at once
        {"batch_pairs": 3, "workers": 4},
        {"batch_pairs": 1, "workers": 1},
        {"dropout": 0.0, "lora_dropout": 0.0},
        {"min_tokens": 200},
        {"temperature": 0},
    ],
)
def test_a_contrastive_run_that_cannot_learn_is_refused(knobs: dict):
    with pytest.raises(ValidationError):
        ContrastiveConfig(**knobs)


def test_turns_need_no_dropout():
    assert ContrastiveConfig(pairs="turns", dropout=0.0, lora_dropout=0.0).pairs == "turns"


def test_recipes_are_found_by_their_objective():
    assert dict(RECIPES) == {"mntp": MNTPConfig, "contrastive": ContrastiveConfig}
    assert len({recipe().recipe_digest() for recipe in RECIPES.values()}) == 2


def test_stage_2_has_the_rank_and_the_machine_of_stage_1_unless_its_own_knobs_say_otherwise():
    first = MNTPConfig(lora_rank=4, workers=1, threads=2, learning_rate=0.1, steps=7)
    second = stage_2_after(first, ["threads=1", 'pairs="turns"'])
    assert (second.lora_rank, second.workers, second.threads, second.pairs) == (4, 1, 1, "turns")
    assert (second.learning_rate, second.steps) == (ContrastiveConfig().learning_rate, ContrastiveConfig().steps)
    with pytest.raises(SettingsError, match="batch_rows"):
        stage_2_after(first, ["batch_rows=4"])


def test_stage_2_pads_and_is_elastic_where_stage_1_is():
    second = stage_2_after(MNTPConfig(packing=False, min_workers=1, workers=4), ())
    assert (second.packing, second.min_workers, second.workers) == (False, 1, 4)
    assert stage_2_after(MNTPConfig(), ()).min_workers is None
