"""The training loop of one worker, as plain functions.

Owns the order of a step: draw, count, forward, backward, check, update, report, keep. Must not know Ray,
DeepSpeed, files or what is learned: the engine, the objective, the sum over workers, the report and what
keeps a checkpoint are handed in.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mongars.errors import TrainingError, TrainingStoppedError
from mongars.lm.token_rows import TokenRows
from mongars.training.config import AdapterRecipe
from mongars.training.runtime.job import Progress, StepReport

SumOverWorkers = Callable[[Sequence[float]], list[float]]
Outputs = tuple[Tensor, ...]


class Batch(Protocol):
    """What goes through the model at once."""

    @property
    def rows(self) -> TokenRows:
        """The rows of tokens in it."""
        ...

    @property
    def targets(self) -> int:
        """How many losses are in it; a step's loss is the mean over those of all batches and workers."""
        ...

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        ...


@dataclass(frozen=True)
class PassLoss:
    """What a forward pass came to, as sums over targets.

    `gradient_of` is differentiated: over all workers and passes of a step, its gradients sum to that of the
    summed loss. `loss`, in nats, is what this pass adds to it; `right` of `judged` predictions were right.
    """

    gradient_of: Tensor
    loss: float
    right: float
    judged: float


class Objective(Protocol):
    """What one worker learns in a step."""

    def batches(self, step: int) -> Sequence[Batch]:
        """Return the worker's batches of a step (from 0), one for each forward pass."""
        ...

    def loss(self, outputs: Outputs, batch: Any) -> PassLoss:
        """Return the loss of a batch from what the model made of it."""
        ...


class Engine(Protocol):
    """A model with its optimizer."""

    def forward(self, batch: Any) -> Outputs:
        """Return what the model makes of a batch."""
        ...

    def backward(self, share: Tensor) -> None:
        """Add the gradient of a share of the loss; the shares of all passes and workers sum to the loss."""
        ...

    def step(self) -> None:
        """Clip and apply the gradient of the whole step."""
        ...


@dataclass
class _Sums:
    """What the workers add up in a step."""

    loss: float = 0.0
    right: float = 0.0
    judged: float = 0.0
    tokens: float = 0.0
    places: float = 0.0  # tokens with padding

    def add(self, batch: Batch, found: PassLoss) -> None:
        self.loss += found.loss
        self.right += found.right
        self.judged += found.judged
        self.tokens += sum(batch.rows.lengths)
        self.places += batch.rows.places


def train_steps(
    engine: Engine,
    objective: Objective,
    config: AdapterRecipe,
    start: Progress | None = None,
    *,
    rank: int = 0,
    sum_over_workers: SumOverWorkers = list,
    keep: Callable[[Progress], None] = lambda _: None,
    stopping: Callable[[], bool] = lambda: False,
    report: Callable[[StepReport], None] = lambda _: None,
    device: torch.device | None = None,
) -> Progress:
    """Run the steps of one worker that `start` has not done, and return where the run is then.

    `keep` is called on every worker, when a checkpoint is due and before a stop; one `stopping` stops all.
    With dropout 0 the losses do not depend on the number of workers, but for the order of floating-point sums.
    Raises, on every worker, TrainingStoppedError when asked to stop, and TrainingError, before the update, when a
    loss is not finite.
    """
    progress = start or Progress()
    kept = progress.step
    while progress.step < config.steps:
        started = time.perf_counter()
        batches = objective.batches(progress.step)
        targets, asked = sum_over_workers([sum(batch.targets for batch in batches), float(stopping())])
        if asked:
            if progress.step > kept:
                keep(progress)
            raise stopped_after(progress.step, config.steps)
        _seed_dropout(config.seed, progress.step, rank)
        sums = _passes(engine, objective, batches, targets, device)
        total = _Sums(*sum_over_workers(list(vars(sums).values())))
        loss = total.loss / max(targets, 1)
        if not math.isfinite(loss):
            raise _not_finite(loss, progress.step + 1, kept)
        engine.step()
        done = _report(progress.step, config, loss, total, time.perf_counter() - started, device)
        progress = progress.advanced(done)
        report(done)
        if progress.step % config.checkpoint_steps == 0 and progress.step < config.steps:
            keep(progress)
            kept = progress.step
    return progress


def _passes(
    engine: Engine, objective: Objective, batches: Sequence[Batch], targets: float, device: torch.device | None
) -> _Sums:
    """Run a worker's forward and backward passes of a step."""
    sums = _Sums()
    for batch in batches:
        placed = batch.to(device) if device else batch
        found = objective.loss(engine.forward(placed), placed)
        engine.backward(found.gradient_of / max(targets, 1))
        sums.add(placed, found)
    return sums


def stopped_after(step: int, steps: int) -> TrainingStoppedError:
    """Return the error of a run that was asked to stop and kept where it is."""
    kept = "its checkpoint is kept" if step else "nothing was done yet"
    return TrainingStoppedError(
        f"The run was stopped after step {step} of {steps}; {kept}.",
        remedy="Start the same run again and it goes on from there.",
    )


def _not_finite(loss: float, step: int, kept: int) -> TrainingError:
    found = f"the checkpoint after step {kept} is kept" if kept else "there is no checkpoint yet"
    return TrainingError(
        f"The loss is {loss} at step {step}; the adapter was not saved, {found}.",
        remedy="Look for damaged rows, or lower learning_rate (resume_from goes on from a checkpoint with it).",
    )


def _seed_dropout(seed: int, step: int, rank: int) -> None:
    """Make dropout a function of (seed, step, rank), so that a step does not depend on the ones before it."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0]))


def _report(
    step: int, config: AdapterRecipe, loss: float, total: _Sums, seconds: float, device: torch.device | None
) -> StepReport:
    on_gpu = device is not None and device.type == "cuda"
    return StepReport(
        step=step + 1,
        steps=config.steps,
        loss=loss,
        accuracy=total.right / total.judged if total.judged else None,
        accuracy_name=config.accuracy_name,
        tokens_per_second=total.tokens / seconds,
        padding_share=1 - total.tokens / total.places,
        workers=config.workers,
        gpu_memory=torch.cuda.max_memory_allocated(device) if on_gpu else None,
    )
