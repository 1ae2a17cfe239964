"""The training loop of one worker, as plain functions.

Owns the order of a step: mask, count, forward, backward, check, update, report. Must not know Ray or DeepSpeed:
the engine, the sum over workers and the report are handed in.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mongars.errors import TrainingError
from mongars.training.config import MNTPConfig
from mongars.training.masking import Masker
from mongars.training.objectives import MaskedBatch, collate
from mongars.training.plan import global_batch, micro_batches
from mongars.training.run import StepReport
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
    *,
    rank: int = 0,
    sum_over_workers: SumOverWorkers = list,
    report: Callable[[StepReport], None] = lambda _: None,
    device: torch.device | None = None,
) -> list[StepReport]:
    """Run every step of one worker and return their reports, which are the same on every worker.

    With dropout 0 the losses do not depend on the number of workers, but for the order of floating-point sums.
    Raises TrainingError, on every worker and before the update, when a loss is not finite.
    """
    reports = []
    for step in range(config.steps):
        started = time.perf_counter()
        batches = _worker_batches(rows, masker, config, step=step, rank=rank)
        targets = sum_over_workers([sum(batch.labels.numel() for batch in batches)])[0]
        _seed_dropout(config.seed, step, rank)
        sums = _Sums()
        for batch in batches:
            placed = batch.to(device) if device else batch
            losses, right = engine.forward(placed)
            engine.backward(losses.sum() / max(targets, 1))
            sums.add(placed, losses, right)
        total = _Sums(*sum_over_workers(list(vars(sums).values())))
        loss = total.loss / max(targets, 1)
        if not math.isfinite(loss):
            raise TrainingError(
                f"The loss is {loss} at step {step + 1}; the adapter was not saved.",
                remedy="Lower learning_rate, or look for damaged rows.",
            )
        engine.step()
        reports.append(_report(step, config, loss, total, time.perf_counter() - started))
        report(reports[-1])
    return reports


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


def _report(step: int, config: MNTPConfig, loss: float, total: _Sums, seconds: float) -> StepReport:
    return StepReport(
        step=step + 1,
        steps=config.steps,
        loss=loss,
        accuracy=total.right / total.hidden if total.hidden else None,
        tokens_per_second=total.tokens / seconds,
        padding_share=1 - total.tokens / total.places,
    )
