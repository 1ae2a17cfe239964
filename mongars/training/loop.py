"""The training loop of one worker, without Ray, DeepSpeed or files: everything else is passed in."""

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


class TrainingBatch(Protocol):
    """The input of one forward pass."""

    @property
    def rows(self) -> TokenRows:
        """Its rows of tokens."""
        ...

    @property
    def targets(self) -> int:
        """Its number of losses; the loss of a step is the mean over all batches and workers."""
        ...

    def to(self, device: torch.device) -> "TrainingBatch":
        """Return the batch on a device."""
        ...


@dataclass(frozen=True)
class PassLoss:
    """The loss of one forward pass, as sums over its targets.

    `differentiable` is the tensor to differentiate: over all passes and workers of a step, its gradients sum to
    the gradient of the summed loss. `loss`, in nats, is the part of this pass in that sum. Of `scored`
    predictions, `correct` were right.
    """

    differentiable: Tensor
    loss: float
    correct: float
    scored: float


class Objective(Protocol):
    """The batches and the loss of one worker."""

    def batches(self, step: int) -> Sequence[TrainingBatch]:
        """Return the worker's batches of a step (from 0), one for each forward pass."""
        ...

    def loss(self, outputs: Outputs, batch: Any) -> PassLoss:
        """Return the loss of a batch, given the model's outputs for it."""
        ...


class TrainingEngine(Protocol):
    """A model with its optimizer."""

    def forward(self, batch: Any) -> Outputs:
        """Return the model's outputs for a batch."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a part of the step's loss, which is the sum over all passes and workers."""
        ...

    def step(self) -> None:
        """Clip and apply the gradient of the whole step."""
        ...


@dataclass
class _StepSums:
    """Sums over the passes, then the workers, of a step."""

    loss: float = 0.0
    correct: float = 0.0
    scored: float = 0.0
    tokens: float = 0.0
    padded_tokens: float = 0.0

    def add(self, batch: TrainingBatch, found: PassLoss) -> None:
        self.loss += found.loss
        self.correct += found.correct
        self.scored += found.scored
        self.tokens += sum(batch.rows.lengths)
        self.padded_tokens += batch.rows.places


def train_steps(
    engine: TrainingEngine,
    objective: Objective,
    config: AdapterRecipe,
    start: Progress | None = None,
    *,
    rank: int = 0,
    sum_over_workers: SumOverWorkers = list,
    save: Callable[[Progress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[StepReport], None] = lambda _: None,
    device: torch.device | None = None,
) -> Progress:
    """Run the steps of one worker after those of `start`, and return the progress at the end.

    `save` is called on every worker, when a checkpoint is due and before a stop. If `should_stop` is true on one
    worker, all stop. Without dropout the losses do not depend on the number of workers, except for the order of
    floating-point sums. Raises, on every worker, TrainingStoppedError after a request to stop, and TrainingError,
    before the update, if a loss is not finite.
    """
    progress = start or Progress()
    saved_step = progress.step
    while progress.step < config.steps:
        started = time.perf_counter()
        batches = objective.batches(progress.step)
        targets, stop = sum_over_workers([sum(batch.targets for batch in batches), float(should_stop())])
        if stop:
            if progress.step > saved_step:
                save(progress)
            raise stopped_after(progress.step, config.steps)
        _seed_dropout(config.seed, progress.step, rank)
        sums = _passes(engine, objective, batches, targets, device)
        total = _StepSums(*sum_over_workers(list(vars(sums).values())))
        loss = total.loss / max(targets, 1)
        if not math.isfinite(loss):
            raise _not_finite(loss, progress.step + 1, saved_step)
        engine.step()
        step_report = _report(progress.step, config, loss, total, time.perf_counter() - started, device)
        progress = progress.advanced(step_report)
        report(step_report)
        if progress.step % config.checkpoint_steps == 0 and progress.step < config.steps:
            save(progress)
            saved_step = progress.step
    return progress


def _passes(
    engine: TrainingEngine,
    objective: Objective,
    batches: Sequence[TrainingBatch],
    targets: float,
    device: torch.device | None,
) -> _StepSums:
    """Run a worker's forward and backward passes of a step."""
    sums = _StepSums()
    for batch in batches:
        on_device = batch.to(device) if device else batch
        found = objective.loss(engine.forward(on_device), on_device)
        engine.backward(found.differentiable / max(targets, 1))
        sums.add(on_device, found)
    return sums


def stopped_after(step: int, steps: int) -> TrainingStoppedError:
    """Return the error of a run that was stopped on request, after it wrote its checkpoint."""
    state = "its checkpoint is kept" if step else "it had done no step yet"
    return TrainingStoppedError(
        f"The run was stopped after step {step} of {steps}; {state}.",
        remedy="Start the same run again to continue it.",
    )


def _not_finite(loss: float, step: int, saved_step: int) -> TrainingError:
    state = f"the checkpoint after step {saved_step} is kept" if saved_step else "there is no checkpoint yet"
    return TrainingError(
        f"The loss is {loss} at step {step}; the adapter was not saved, {state}.",
        remedy="Look for damaged rows, or resume from a checkpoint with a lower learning_rate (resume_from).",
    )


def _seed_dropout(seed: int, step: int, rank: int) -> None:
    """Make dropout a function of (seed, step, rank), so that a step does not depend on earlier ones."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0]))


def _report(
    step: int, config: AdapterRecipe, loss: float, total: _StepSums, seconds: float, device: torch.device | None
) -> StepReport:
    on_gpu = device is not None and device.type == "cuda"
    return StepReport(
        step=step + 1,
        steps=config.steps,
        loss=loss,
        accuracy=total.correct / total.scored if total.scored else None,
        accuracy_name=config.accuracy_name,
        tokens_per_second=total.tokens / seconds,
        padding_share=1 - total.tokens / total.padded_tokens,
        workers=config.workers,
        gpu_memory=torch.cuda.max_memory_allocated(device) if on_gpu else None,
    )
