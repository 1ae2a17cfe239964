"""The training loop of a pretraining worker, without Ray: collectives and the report are passed in."""

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from mongars.errors import TrainingError
from mongars.pretraining.config import PretrainConfig
from mongars.pretraining.job import CurvePoint, PretrainReport
from mongars.pretraining.objective import NextTokenLoss
from mongars.pretraining.state import TrainingState
from mongars.training.data.sampler import global_batch
from mongars.training.loop import stopped_after

HELDOUT_BATCH = 16  # held-out rows in one forward pass


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
    save: Callable[[], None] = lambda: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Run the remaining steps of `state`; `save` is called when a checkpoint is due and before a stop.

    `wrap` returns the loss, a module, such that its gradients are averaged over workers. All rows of a step have
    the same number of targets, so the mean of the workers' means is the mean. Raises, on every worker,
    TrainingStoppedError if `should_stop` (which must agree on all of them), and TrainingError, before the update,
    if a gradient is not finite.
    """
    objective = NextTokenLoss(state.model, config.precision)
    wrapped = wrap(objective).train()
    device = next(state.model.parameters()).device
    started, first_step = time.perf_counter(), state.step
    saved_step = state.step
    while state.step < config.steps:
        if should_stop():
            if state.step > saved_step:
                state.losses = [mean_over_workers(loss) for loss in state.losses]  # one file for all workers
                state.seconds += time.perf_counter() - started
                save()
            raise stopped_after(state.step, config.steps)
        state.set_rate(config.rate(state.step))
        batch = _batch(rows, config, state.step, rank).to(device)
        loss: Tensor = wrapped(batch)
        loss.backward()  # type: ignore[no-untyped-call] # of torch
        _check_norm(nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_norm), state.step)
        state.update()
        state.losses.append(loss.item())
        is_last = state.step == config.steps
        if is_last or state.step % config.report_steps == 0:
            measure = is_last or state.step % config.heldout_steps == 0
            point = CurvePoint(
                step=state.step,
                loss=round(mean_over_workers(float(np.mean(state.losses))), 5),
                learning_rate=config.rate(state.step - 1),
                heldout_loss=heldout_loss(objective, heldout) if measure and heldout is not None else None,
            )
            state.curve.append(point)
            state.losses.clear()
            now = time.perf_counter()
            tokens = (state.step - first_step) * batch.numel() * config.workers
            state.seconds += now - started
            report(PretrainReport(point, config.steps, tokens / (now - started)))
            started, first_step = now, state.step
        if is_last or state.step % config.checkpoint_steps == 0:
            save()
            saved_step = state.step
    wrapped.eval()


@torch.no_grad()
def heldout_loss(objective: NextTokenLoss, rows: np.ndarray) -> float:
    """Return the mean loss over rows of held-out text, in nats per token, rounded to 1e-5."""
    device = next(objective.parameters()).device
    was_training = objective.training
    objective.eval()
    total = 0.0
    for start in range(0, len(rows), HELDOUT_BATCH):
        batch = torch.from_numpy(rows[start : start + HELDOUT_BATCH].astype(np.int64)).to(device)
        total += float(objective(batch)) * len(batch)
    objective.train(was_training)
    return round(total / len(rows), 5)


def _batch(rows: np.ndarray, config: PretrainConfig, step: int, rank: int) -> Tensor:
    """Return this worker's rows of a step: int64 [batch_rows / workers, context]."""
    refs = global_batch(step, rows=len(rows), batch_rows=config.batch_rows, seed=config.seed)
    return torch.from_numpy(rows[[ref.row for ref in refs[rank :: config.workers]]].astype(np.int64))


def _check_norm(norm: Tensor, step: int) -> None:
    if not math.isfinite(float(norm)):
        raise TrainingError(
            f"The gradient is {float(norm)} at step {step + 1}; the previous checkpoint is kept.",
            remedy="Lower learning_rate, or look for damaged text.",
        )
