import pytest
from pydantic import ValidationError

from mongars.errors import SettingsError
from mongars.training.config import (
    RECIPES,
    AdapterRecipe,
    ContrastiveConfig,
    MNTPConfig,
    config_from,
    stage_2_after,
)


def test_defaults_of_stage_1_are_those_of_llm2vec():
    config = MNTPConfig()
    assert (config.lora_rank, config.lora_alpha, config.lora_dropout) == (16, 32, 0.05)
    assert (config.learning_rate, config.mask_share, config.clip_norm) == (5e-5, 0.2, 1.0)
    assert (config.max_tokens, config.batch_rows, config.steps) == (512, 32, 1000)


def test_an_unknown_option_is_refused():
    with pytest.raises(ValidationError, match="learning_rat"):
        MNTPConfig(learning_rat=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_rows": 2, "workers": 3},
        {"batch_rows": 8, "workers": 3, "micro_rows": 1},  # the last worker has two rows for three passes
        {"batch_rows": 8, "workers": 4, "min_workers": 1, "micro_rows": 1},  # likewise with three workers
        {"workers": 2, "min_workers": 2},
        {"learning_rate": float("inf")},  # Python's json reads Infinity
        {"target_modules": []},
        {"random_share": 0.3},
    ],
)
def test_invalid_or_contradictory_options_are_refused(options: dict):
    with pytest.raises(ValidationError):
        MNTPConfig(**options)


def test_passes_times_workers_times_rows_is_the_batch():
    config = MNTPConfig(batch_rows=24, workers=2, micro_rows=4)
    assert config.accumulation * config.workers * config.micro_batch == config.batch_rows


def test_rows_that_the_workers_do_not_divide_are_rounded_up():
    config = MNTPConfig(batch_rows=11, workers=3, micro_rows=3)
    assert (config.worker_batch, config.accumulation) == (4, 2)


def test_an_elastic_recipe_has_its_own_digest_and_uses_the_current_workers():
    fixed, elastic = MNTPConfig(workers=2), MNTPConfig(workers=2, min_workers=1)
    assert elastic.recipe_digest() != fixed.recipe_digest()
    assert elastic.with_world_size(1) == MNTPConfig(workers=1)
    assert elastic.with_world_size(2) == fixed


EVERY_OPTION = MNTPConfig(
    lora_rank=4,
    lora_alpha=8,
    lora_dropout=0.0,
    target_modules=("q_proj",),
    learning_rate=0.01,
    clip_norm=2.0,
    max_tokens=64,
    packing=False,
    steps=7,
    workers=3,
    min_workers=1,
    threads=2,
    zero_stage=3,
    precision="bf16",
    recompute=True,
    seed=5,
    checkpoint_steps=9,
    mask_share=0.3,
    hide_share=0.7,
    random_share=0.2,
    mask_token_id=3,
    batch_rows=12,
    micro_rows=2,
)


@pytest.mark.parametrize(
    ("recipe", "digest"),
    [
        (MNTPConfig(), "0b0f6ce3c1628fedbdd91e3dbd1adadefa604ff6a4193d74100f2d87a0e61a39"),
        (ContrastiveConfig(), "6bc22b6f4d25febff8760b06cc46caada6a46074b497333179c58bf770431c5c"),
        (EVERY_OPTION, "47060c471a8717f211cf493c53e60739c38113413c6b7394fbe8c97e1cf2409d"),
    ],
    ids=["mntp", "contrastive", "every-option"],
)
def test_recipe_digests_have_their_known_values(recipe: AdapterRecipe, digest: str):
    """Another value would train every adapter again: a new field must be excluded from dumps at its default."""
    assert recipe.recipe_digest() == digest


@pytest.mark.parametrize("name", sorted(MNTPConfig.model_fields))
def test_every_option_changes_the_recipe_digest_except_the_checkpoint_interval(name: str):
    changed = MNTPConfig().model_copy(update={name: getattr(EVERY_OPTION, name)})
    assert getattr(changed, name) != getattr(MNTPConfig(), name), "the test must change it"
    assert (changed.recipe_digest() == MNTPConfig().recipe_digest()) == (name == "checkpoint_steps")


def test_options_of_the_command_line_are_json_values_over_the_default_recipe() -> None:
    config = config_from(MNTPConfig, ["steps=7", "learning_rate=0.002"])
    assert (config.steps, config.learning_rate, config.lora_rank) == (7, 0.002, MNTPConfig().lora_rank)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("steps=0", "steps: Input should be greater than or equal to 1"),
        ("step=7", "step: Extra inputs are not permitted"),
        ("steps", "'steps' is not OPTION=JSON"),
        ("steps=seven", "'steps=seven' is not OPTION=JSON"),
    ],
)
def test_a_wrong_option_of_the_command_line_is_refused_by_name(option: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        config_from(MNTPConfig, [option])


def test_defaults_of_stage_2_are_llm2vecs_simcse():
    config = ContrastiveConfig()
    assert (config.pairs, config.dropout, config.temperature, config.learning_rate) == ("simcse", 0.3, 0.05, 3e-5)
    assert (config.lora_rank, config.lora_alpha, config.max_tokens, config.batch_pairs) == (16, 32, 128, 128)
    assert config.accumulation == 1


@pytest.mark.parametrize(
    "options",
    [
        {"micro_rows": 2},  # the negatives of a step need one forward pass
        {"batch_pairs": 3, "workers": 4},
        {"batch_pairs": 1, "workers": 1},
        {"dropout": 0.0, "lora_dropout": 0.0},
        {"min_tokens": 200},
        {"temperature": 0},
    ],
)
def test_a_contrastive_recipe_that_cannot_learn_is_refused(options: dict):
    with pytest.raises(ValidationError):
        ContrastiveConfig(**options)


def test_pairs_of_turns_do_not_require_dropout():
    assert ContrastiveConfig(pairs="turns", dropout=0.0, lora_dropout=0.0).dropout == 0.0


def test_recipes_are_registered_by_objective():
    assert dict(RECIPES) == {"mntp": MNTPConfig, "contrastive": ContrastiveConfig}


def test_stage_2_takes_rank_and_machine_from_stage_1_unless_overridden():
    first = MNTPConfig(lora_rank=4, workers=1, threads=2, learning_rate=0.1, steps=7)
    second = stage_2_after(first, ["threads=1", 'pairs="turns"'])
    assert (second.lora_rank, second.workers, second.threads, second.pairs) == (4, 1, 1, "turns")
    assert (second.learning_rate, second.steps) == (ContrastiveConfig().learning_rate, ContrastiveConfig().steps)
    with pytest.raises(SettingsError, match="batch_rows"):
        stage_2_after(first, ["batch_rows=4"])


def test_stage_2_takes_padding_and_elasticity_from_stage_1():
    second = stage_2_after(MNTPConfig(packing=False, min_workers=1, workers=4), ())
    assert (second.packing, second.min_workers, second.workers) == (False, 1, 4)
    assert stage_2_after(MNTPConfig(), ()).min_workers is None
