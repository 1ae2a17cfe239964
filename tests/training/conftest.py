"""Training without Ray or DeepSpeed: a plain engine, and workers that are threads."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from mongars.errors import TrainingError
from mongars.neurons.base import load_base
from mongars.training.adapter import mntp_model
from mongars.training.config import MNTPConfig
from mongars.training.loop import train_steps
from mongars.training.masking import Masker
from mongars.training.run import StepReport
from mongars.training.text import TokenTable

TINY = {
    "lora_rank": 4,
    "lora_dropout": 0.0,
    "learning_rate": 1e-2,
    "max_tokens": 32,
    "batch_rows": 8,
    "steps": 12,
    "workers": 1,
}


class Workers:
    """Threads that add up numbers and gradients as a process group does."""

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count, timeout=60)
        self._values: dict[int, torch.Tensor] = {}

    def sum(self, rank: int, value: torch.Tensor) -> torch.Tensor:
        self._values[rank] = value
        self._barrier.wait()
        total = torch.stack([self._values[key] for key in sorted(self._values)]).sum(dim=0)
        self._barrier.wait()
        return total

    def stop(self) -> None:
        self._barrier.abort()


class PlainEngine:
    """A `loop.Engine` of torch alone, for a rank of `workers`."""

    def __init__(self, model: Any, config: MNTPConfig, rank: int, workers: Workers) -> None:
        self.model = model
        self._rank, self._workers, self._clip = rank, workers, config.clip_norm
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(self.trained, lr=config.learning_rate, weight_decay=0.0)

    def forward(self, batch: Any) -> Any:
        return self.model(batch)

    def backward(self, share: torch.Tensor) -> None:
        share.backward()

    def step(self) -> None:
        for parameter in self.trained:
            parameter.grad = self._workers.sum(self._rank, parameter.grad)
        torch.nn.utils.clip_grad_norm_(self.trained, self._clip)
        self._optimizer.step()
        self._optimizer.zero_grad()


@pytest.fixture(scope="session")
def token_rows() -> TokenTable:
    """Rows of a language with a rule: each token is followed by the one after it."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(40):
        start, length = int(rng.integers(10, 60)), int(rng.integers(4, 24))
        rows.append((f"row-{index:02d}", [1, *range(start, start + length)]))
    return TokenTable.of(rows)


@pytest.fixture
def train(base_folder, token_rows) -> Callable[..., Any]:
    """Return train(**knobs) -> (reports, engine of rank 0), by as many threads as the knobs have workers.

    `loop` are further arguments of `train_steps`.
    """

    def run(
        prepare: Callable[[Any], None] = lambda _: None, loop: dict[str, Any] | None = None, **knobs: Any
    ) -> Any:
        config = MNTPConfig(**(TINY | knobs))
        workers = Workers(config.workers)
        engines = []
        for rank in range(config.workers):
            base = load_base(base_folder)
            torch.manual_seed(config.seed)
            engines.append(PlainEngine(mntp_model(base, config, "tiny"), config, rank, workers))
            prepare(engines[-1].model)
        masker = Masker.of(config, base.tokenizer)

        reports: list[list[StepReport]] = [[] for _ in engines]

        def work(rank: int) -> Any:
            def add_up(values: Sequence[float]) -> list[float]:
                return workers.sum(rank, torch.tensor(values, dtype=torch.float64)).tolist()

            try:
                train_steps(
                    engines[rank],
                    token_rows,
                    masker,
                    config,
                    rank=rank,
                    sum_over_workers=add_up,
                    report=reports[rank].append,
                    **(loop or {}),
                )
            except TrainingError:
                raise  # on every worker, so none waits for this one
            except BaseException:
                workers.stop()
                raise

        with ThreadPoolExecutor(config.workers) as pool:
            futures = [pool.submit(work, rank) for rank in range(config.workers)]
        for future in futures:
            future.result()
        return reports[0], engines[0]

    return run
