import numpy as np
import pytest
import torch

from mongars.errors import TrainingError
from mongars.pretraining.job import PretrainReport
from mongars.pretraining.loop import heldout_loss, pretrain_steps
from mongars.pretraining.objective import NextTokenLoss


def test_the_loss_falls_and_every_interval_is_reported(fresh, tiny, token_rows):
    config = tiny.model_copy(update={"steps": 60})
    reports: list[PretrainReport] = []
    state = fresh()
    pretrain_steps(state, token_rows, config, heldout=token_rows[:8], report=reports.append)
    points = [report.point for report in reports]
    assert points == state.curve
    assert [point.step for point in points] == list(range(2, 61, 2))
    assert points[-1].loss < 0.6 * points[0].loss
    measured = [point.step for point in points if point.heldout_loss is not None]
    assert measured == list(range(6, 61, 6))
    assert points[-1].heldout_loss < points[2].heldout_loss


def test_the_initial_loss_is_that_of_a_uniform_guess(fresh, tiny, token_rows):
    assert heldout_loss(NextTokenLoss(fresh().model, "fp32"), token_rows) == pytest.approx(
        np.log(tiny.vocab_size), rel=0.02
    )


def test_the_mean_gradient_of_two_workers_is_that_of_one(fresh, tiny, token_rows):
    halves = tiny.model_copy(update={"workers": 2, "steps": 1, "warmup_steps": 0, "decay_steps": 0})
    whole = halves.model_copy(update={"workers": 1})

    def gradients(config, rank: int) -> list[torch.Tensor]:
        state, seen = fresh(), list[torch.Tensor]()
        state.update = lambda: (
            seen.extend(p.grad.clone() for p in state.model.parameters()),
            setattr(state, "step", 1),
        )
        pretrain_steps(state, token_rows, config.model_copy(update={"clip_norm": 1e9}), rank=rank)
        return seen

    first, second, both = gradients(halves, 0), gradients(halves, 1), gradients(whole, 0)
    for one, other, expected in zip(first, second, both, strict=True):
        assert torch.allclose((one + other) / 2, expected, atol=1e-6)


def test_a_non_finite_gradient_stops_the_run_before_the_update(fresh, tiny, token_rows):
    state = fresh()
    with torch.no_grad():
        state.model.model.norm.weight[0] = float("nan")
    kept: list[int] = []
    with pytest.raises(TrainingError, match="learning_rate"):
        pretrain_steps(state, token_rows, tiny, save=lambda: kept.append(state.step))
    assert (state.step, kept) == (0, [])


def test_checkpoints_are_written_at_their_interval_and_at_the_end(fresh, tiny, token_rows):
    state, kept = fresh(), list[int]()
    pretrain_steps(state, token_rows, tiny.model_copy(update={"steps": 10}), save=lambda: kept.append(state.step))
    assert kept == [4, 8, 10]
