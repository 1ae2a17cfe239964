"""bf16 products and recomputed activations change the cost of a run, and hardly its result."""

import pytest
import torch

from mongars.training.config import MNTPConfig
from mongars.training.objectives.mntp import MNTPObjective
from mongars.training.objectives.precision import computes_in_bf16
from mongars.training.runtime.adapter_writer import adapted_encoder

OPTIONS = {
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
    """Return train(**options) -> (losses, weights) of stage 1."""

    def run(prepare=lambda _: None, **options):
        def objective(config, base, rank, workers):
            return MNTPObjective(config, base, token_rows, rank)

        reports, engine = train_with(MNTPConfig(**(OPTIONS | options)), objective, prepare)
        return [report.loss for report in reports], engine.trained

    return run


@pytest.mark.parametrize("packing", [False, True])
def test_recomputing_activations_gives_the_same_weights(train, packing):
    calls = {False: 0, True: 0}

    def counting(recompute):
        def prepare(model):
            model.train()  # like DeepSpeed's engine
            # A pre-hook, because recomputation stops at the last activation that is needed.
            layer = model.encoder.get_base_model().layers[0].self_attn
            layer.register_forward_pre_hook(lambda *_: calls.__setitem__(recompute, calls[recompute] + 1))

        return prepare

    losses, weights = train(counting(False), packing=packing)
    again, others = train(counting(True), packing=packing, recompute=True)
    assert calls[True] == 2 * calls[False] > 0
    assert again == pytest.approx(losses, abs=1e-6)
    for one, other in zip(weights, others, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_bf16_products_give_similar_losses_with_fp32_weights(train):
    losses, _ = train()
    others, weights = train(precision="bf16")
    assert all(each.dtype == torch.float32 for each in weights)
    assert others != losses
    assert others == pytest.approx(losses, rel=0.02)
    assert others[-1] < others[0]


def test_auto_precision_is_bf16_on_a_gpu_only():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert computes_in_bf16("auto", cuda)
    assert not computes_in_bf16("auto", cpu)
    assert computes_in_bf16("bf16", cpu)
    assert not computes_in_bf16("fp32", cuda)


def test_recompute_enables_gradient_checkpointing(base):
    assert adapted_encoder(base, MNTPConfig(recompute=True), "tiny").get_base_model().is_gradient_checkpointing
    assert not adapted_encoder(base, MNTPConfig(), "tiny").get_base_model().is_gradient_checkpointing
