"""bf16 products and recomputed activations change what a run costs, and next to nothing of what it learns."""

import pytest
import torch

from mongars.training.config import ContrastiveConfig, MNTPConfig
from mongars.training.objectives.mntp import MNTPObjective
from mongars.training.objectives.precision import computes_in_bf16
from mongars.training.runtime.adapter_writer import adapted_encoder

KNOBS = {
    "lora_rank": 4,
    "lora_dropout": 0.0,
    "learning_rate": 1e-2,
    "max_tokens": 32,
    "batch_rows": 8,
    "steps": 4,
    "workers": 1,
}


@pytest.fixture
def train(train_with, token_rows):
    """Return train(**knobs) -> (losses, weights) of stage 1."""

    def run(prepare=lambda _: None, **knobs):
        def objective(config, base, rank, workers):
            return MNTPObjective(config, base, token_rows, rank)

        reports, engine = train_with(MNTPConfig(**(KNOBS | knobs)), objective, prepare)
        return [report.loss for report in reports], engine.trained

    return run


@pytest.mark.parametrize("packing", [False, True])
def test_recomputed_activations_give_the_same_weights(train, packing):
    calls = {False: 0, True: 0}

    def counting(recompute):
        def prepare(model):
            model.train()  # as DeepSpeed's engine has it
            # Before, not after: the second computation stops where the last activation is there again.
            layer = model.encoder.get_base_model().layers[0].self_attn
            layer.register_forward_pre_hook(lambda *_: calls.__setitem__(recompute, calls[recompute] + 1))

        return prepare

    losses, weights = train(counting(False), packing=packing)
    again, others = train(counting(True), packing=packing, recompute=True)
    assert calls[True] == 2 * calls[False] > 0
    assert again == pytest.approx(losses, abs=1e-6)
    for one, other in zip(weights, others, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_bf16_products_learn_about_the_same_with_weights_in_fp32(train):
    losses, _ = train()
    others, weights = train(precision="bf16")
    assert all(each.dtype == torch.float32 for each in weights)
    assert others != losses
    assert others == pytest.approx(losses, rel=0.02)
    assert others[-1] < others[0]


def test_what_is_computed_in_follows_from_the_device_where_it_is_not_told():
    places = {name: torch.device(name) for name in ("cpu", "cuda")}
    assert {name: computes_in_bf16("auto", place) for name, place in places.items()} == {
        "cpu": False,
        "cuda": True,
    }
    assert computes_in_bf16("bf16", places["cpu"])
    assert not computes_in_bf16("fp32", places["cuda"])


@pytest.mark.parametrize("recipe", [MNTPConfig, ContrastiveConfig])
def test_a_run_without_these_knobs_has_the_digest_that_it_always_had(recipe):
    assert "precision" not in recipe().model_dump(mode="json")
    assert recipe(recompute=False, precision="auto").recipe_digest() == recipe().recipe_digest()
    assert recipe(precision="bf16").recipe_digest() != recipe().recipe_digest()
    assert recipe(recompute=True).recipe_digest() != recipe().recipe_digest()


def test_the_encoder_of_a_recipe_that_recomputes_does_so(base):
    assert adapted_encoder(base, MNTPConfig(recompute=True), "tiny").get_base_model().is_gradient_checkpointing
    assert not adapted_encoder(base, MNTPConfig(), "tiny").get_base_model().is_gradient_checkpointing
