"""The training loop of one worker, as plain functions.

Owns the order of a step: mask, count, forward, backward, check, update, report, keep. Must not know Ray, DeepSpeed
or files: the engine, the sum over workers, the report and what keeps a checkpoint are handed in.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mongars.errors import TrainingError, TrainingStoppedError
from mongars.training.config import MNTPConfig
from mongars.training.masking import Masker
from mongars.training.objectives import MaskedBatch, collate
from mongars.training.plan import global_batch, micro_batches
from mongars.training.run import Progress, StepReport
from mongars.training.text import TokenTable

SumOverWorkers = Callable[[Sequence[float]], list[float]]


class Engine(Protocol):
    """A model with its optimizer."""

    def forward(self, batch: MaskedBatch) -> tuple[Tensor, Tensor]:
        """Return each target's loss, and whether it was predicted (`MNTPModel.forward`)."""
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
    hidden: float = 0.0
    tokens: float = 0.0
    places: float = 0.0  # tokens with padding

    def add(self, batch: MaskedBatch, losses: Tensor, right: Tensor) -> None:
        self.loss += float(losses.detach().sum())
        self.right += float((right & batch.hidden).sum())
        self.hidden += float(batch.hidden.sum())
        self.tokens += float(batch.attention_mask.sum())
        self.places += batch.attention_mask.numel()


def train_steps(
    engine: Engine,
    rows: TokenTable,
    masker: Masker,
    config: MNTPConfig,
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
        batches = _worker_batches(rows, masker, config, step=progress.step, rank=rank)
        targets, asked = sum_over_workers([sum(batch.labels.numel() for batch in batches), float(stopping())])
        if asked:
            if progress.step > kept:
                keep(progress)
            raise _stopped(progress, config)
        _seed_dropout(config.seed, progress.step, rank)
        sums = _passes(engine, batches, targets, device)
        total = _Sums(*sum_over_workers(list(vars(sums).values())))
        loss = total.loss / max(targets, 1)
        if not math.isfinite(loss):
            raise _not_finite(loss, progress.step + 1, kept)
        engine.step()
        done = _report(progress.step, config, loss, total, time.perf_counter() - started, device)
        progress = progress.after(done)
        report(done)
        if progress.step % config.checkpoint_steps == 0 and progress.step < config.steps:
            keep(progress)
            kept = progress.step
    return progress


def _passes(engine: Engine, batches: Sequence[MaskedBatch], targets: float, device: torch.device | None) -> _Sums:
    """Run a worker's forward and backward passes of a step."""
    sums = _Sums()
    for batch in batches:
        placed = batch.to(device) if device else batch
        losses, right = engine.forward(placed)
        engine.backward(losses.sum() / max(targets, 1))
        sums.add(placed, losses, right)
    return sums


def _stopped(progress: Progress, config: MNTPConfig) -> TrainingStoppedError:
    kept = "its checkpoint is kept" if progress.step else "nothing was done yet"
    return TrainingStoppedError(
        f"The run was stopped after step {progress.step} of {config.steps}; {kept}.",
        remedy="Start the same run again and it goes on from there.",
    )


def _not_finite(loss: float, step: int, kept: int) -> TrainingError:
    found = f"the checkpoint after step {kept} is kept" if kept else "there is no checkpoint yet"
    return TrainingError(
        f"The loss is {loss} at step {step}; the adapter was not saved, {found}.",
        remedy="Look for damaged rows, or lower learning_rate (resume_from goes on from a checkpoint with it).",
    )


def _worker_batches(
    rows: TokenTable, masker: Masker, config: MNTPConfig, *, step: int, rank: int
) -> list[MaskedBatch]:
    places = global_batch(step, rows=len(rows), batch_rows=config.batch_rows, seed=config.seed)
    passes = micro_batches(places, rows.lengths, rank=rank, world=config.workers, micro_rows=config.micro_batch)
    return [
        collate([masker.mask(rows.ids[place.row], rows.row(place.row), place.epoch) for place in own])
        for own in passes
    ]


def _seed_dropout(seed: int, step: int, rank: int) -> None:
    """Make dropout a function of (seed, step, rank), so that a step does not depend on the ones before it."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0]))


def _report(
    step: int, config: MNTPConfig, loss: float, total: _Sums, seconds: float, device: torch.device | None
) -> StepReport:
    on_gpu = device is not None and device.type == "cuda"
    return StepReport(
        step=step + 1,
        steps=config.steps,
        loss=loss,
        accuracy=total.right / total.hidden if total.hidden else None,
        tokens_per_second=total.tokens / seconds,
        padding_share=1 - total.tokens / total.places,
        gpu_memory=torch.cuda.max_memory_allocated(device) if on_gpu else None,
    )
