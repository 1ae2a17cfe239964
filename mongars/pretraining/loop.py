"""The steps of a pretraining run, as plain functions.

Owns the order of a step: rate, forward, backward, check, update, report. Must not know Ray: what averages
gradients over workers, the mean over workers and the report are handed in.
"""

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from mongars.errors import TrainingError
from mongars.pretraining.config import PretrainConfig
from mongars.pretraining.objective import NextTokenLoss
from mongars.pretraining.run import CurvePoint, PretrainReport
from mongars.pretraining.state import TrainingState
from mongars.training.data.sampler import global_batch
from mongars.training.loop import stopped_after

MEASURED_ROWS = 16  # held-out rows in one forward pass


def pretrain_steps(
    state: TrainingState,
    rows: np.ndarray,
    config: PretrainConfig,
    *,
    heldout: np.ndarray | None = None,
    wrap: Callable[[nn.Module], nn.Module] = lambda loss: loss,
    rank: int = 0,
    mean_over_workers: Callable[[float], float] = float,
    report: Callable[[PretrainReport], None] = lambda _: None,
    keep: Callable[[], None] = lambda: None,
    stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Run the steps that `state` has not done yet. `keep` is called when a checkpoint is due and before a stop.

    `wrap` is given the loss, a module, and returns it with the gradients averaged over workers.
    Every row of a step has the same count of targets, so the mean over workers of means is the mean. Raises, on
    every worker, TrainingStoppedError when `stopping`, which must say the same to all of them, and TrainingError,
    before the update, when a gradient is not finite.
    """
    objective = NextTokenLoss(state.model, config.precision)
    wrapped = wrap(objective).train()
    device = next(state.model.parameters()).device
    started, first = time.perf_counter(), state.step
    kept = state.step
    while state.step < config.steps:
        if stopping():
            if state.step > kept:
                state.losses = [mean_over_workers(loss) for loss in state.losses]  # one file, for all workers
                state.seconds += time.perf_counter() - started
                keep()
            raise stopped_after(state.step, config.steps)
        state.set_rate(config.rate(state.step))
        batch = _batch(rows, config, state.step, rank).to(device)
        loss: Tensor = wrapped(batch)
        loss.backward()  # type: ignore[no-untyped-call] # of torch
        _check(nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_norm), state.step)
        state.update()
        state.losses.append(loss.item())
        ends = state.step == config.steps
        if ends or state.step % config.report_steps == 0:
            measured = ends or state.step % config.heldout_steps == 0
            point = CurvePoint(
                step=state.step,
                loss=round(mean_over_workers(float(np.mean(state.losses))), 5),
                learning_rate=config.rate(state.step - 1),
                heldout_loss=heldout_loss(objective, heldout) if measured and heldout is not None else None,
            )
            state.curve.append(point)
            state.losses.clear()
            now = time.perf_counter()
            tokens = (state.step - first) * batch.numel() * config.workers
            state.seconds += now - started
            report(PretrainReport(point, config.steps, tokens / (now - started)))
            started, first = now, state.step
        if ends or state.step % config.checkpoint_steps == 0:
            keep()
            kept = state.step
    wrapped.eval()


@torch.no_grad()
def heldout_loss(objective: NextTokenLoss, rows: np.ndarray) -> float:
    """Return the mean loss in nats per token over rows of held-out text, rounded to 1e-5."""
    device = next(objective.parameters()).device
    was_training = objective.training
    objective.eval()
    total = 0.0
    for start in range(0, len(rows), MEASURED_ROWS):
        batch = torch.from_numpy(rows[start : start + MEASURED_ROWS].astype(np.int64)).to(device)
        total += float(objective(batch)) * len(batch)
    objective.train(was_training)
    return round(total / len(rows), 5)


def _batch(rows: np.ndarray, config: PretrainConfig, step: int, rank: int) -> Tensor:
    """Return this worker's rows of a step: int64 [batch_rows / workers, context]."""
    places = global_batch(step, rows=len(rows), batch_rows=config.batch_rows, seed=config.seed)
    return torch.from_numpy(rows[[place.row for place in places[rank :: config.workers]]].astype(np.int64))


def _check(norm: Tensor, step: int) -> None:
    if not math.isfinite(float(norm)):
        raise TrainingError(
            f"The gradient is {float(norm)} at step {step + 1}; the checkpoint before it is kept.",
            remedy="Lower learning_rate, or look for damaged text.",
        )
