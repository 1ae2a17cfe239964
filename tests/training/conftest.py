"""Training without Ray or DeepSpeed: a plain engine, and threads as workers."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mongars.errors import TrainingError
from mongars.lm.base import load_base
from mongars.records import DatasetRef
from mongars.training.config import AdapterRecipe, MNTPConfig
from mongars.training.data.pairs import PairTable
from mongars.training.data.tokenize import TokenTable
from mongars.training.loop import train_steps
from mongars.training.objectives.mntp import MNTPObjective
from mongars.training.runtime.adapter_writer import adapted_encoder, adapter_card, write_adapter
from mongars.training.runtime.job import StepReport

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
    """Collective operations over threads, like those of a process group."""

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count, timeout=60)
        self._values: dict[int, torch.Tensor] = {}

    def sum(self, rank: int, value: torch.Tensor) -> torch.Tensor:
        self._values[rank] = value
        self._barrier.wait()
        total = torch.stack([self._values[key] for key in sorted(self._values)]).sum(dim=0)
        self._barrier.wait()
        return total

    def gather(self, rank: int, value: torch.Tensor) -> torch.Tensor:
        self._values[rank] = value
        self._barrier.wait()
        joined = torch.cat([self._values[key] for key in sorted(self._values)])
        self._barrier.wait()
        return joined

    def stop(self) -> None:
        self._barrier.abort()


class PlainEngine:
    """A `TrainingEngine` of plain torch, for one rank of `workers`."""

    def __init__(self, model: Any, config: AdapterRecipe, rank: int, workers: Workers) -> None:
        self.model = model
        self._rank, self._workers, self._clip = rank, workers, config.clip_norm
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(self.trained, lr=config.learning_rate, weight_decay=0.0)

    def forward(self, batch: Any) -> Any:
        return self.model(batch)

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def step(self) -> None:
        for parameter in self.trained:
            parameter.grad = self._workers.sum(self._rank, parameter.grad)
        torch.nn.utils.clip_grad_norm_(self.trained, self._clip)
        self._optimizer.step()
        self._optimizer.zero_grad()


@pytest.fixture(scope="session")
def token_rows() -> TokenTable:
    """Rows that can be learned: each token is the one before plus one."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(40):
        start, length = int(rng.integers(10, 60)), int(rng.integers(4, 24))
        rows.append((f"row-{index:02d}", [1, *range(start, start + length)]))
    return TokenTable.of(rows)


Objectives = Callable[[AdapterRecipe, Any, int, Workers], Any]


@pytest.fixture
def train_with(base_folder) -> Callable[..., Any]:
    """Return train_with(config, objective, ...) -> (reports, engine of rank 0), with threads as workers.

    `objective(config, base, rank, workers)` returns a worker's objective. `prepare` is called with each worker's
    model. `loop` are further arguments of `train_steps`.
    """

    def run(
        config: AdapterRecipe,
        objective: Objectives,
        prepare: Callable[[Any], None] = lambda _: None,
        loop: dict[str, Any] | None = None,
    ) -> Any:
        workers = Workers(config.workers)
        engines, objectives = [], []
        for rank in range(config.workers):
            base = load_base(base_folder)
            torch.manual_seed(config.seed)
            objectives.append(objective(config, base, rank, workers))
            model = objectives[-1].model(adapted_encoder(base, config, "tiny"))
            engines.append(PlainEngine(model, config, rank, workers))
            prepare(model)
        reports: list[list[StepReport]] = [[] for _ in engines]

        def work(rank: int) -> Any:
            def add_up(values: Sequence[float]) -> list[float]:
                return workers.sum(rank, torch.tensor(values, dtype=torch.float64)).tolist()

            try:
                train_steps(
                    engines[rank],
                    objectives[rank],
                    config,
                    rank=rank,
                    sum_over_workers=add_up,
                    report=reports[rank].append,
                    **(loop or {}),
                )
            except TrainingError:
                raise  # raised on every worker, so none waits for this one
            except BaseException:
                workers.stop()
                raise

        with ThreadPoolExecutor(config.workers) as pool:
            futures = [pool.submit(work, rank) for rank in range(config.workers)]
        for future in futures:
            future.result()
        return reports[0], engines[0]

    return run


@pytest.fixture
def train(train_with, token_rows) -> Callable[..., Any]:
    """Return train(**options) -> (reports, engine of rank 0), for masked rows."""

    def run(
        prepare: Callable[[Any], None] = lambda _: None, loop: dict[str, Any] | None = None, **options: Any
    ) -> Any:
        def objective(config: AdapterRecipe, base: Any, rank: int, _: Workers) -> MNTPObjective:
            return MNTPObjective(config, base, token_rows, rank)

        return train_with(MNTPConfig(**(TINY | options)), objective, prepare, loop)

    return run


@pytest.fixture(scope="session")
def write_parent(base):
    """Return write_parent(folder, config) -> folder with an adapter of the base, of random weights."""

    def write(folder: Path, config: AdapterRecipe) -> Path:
        torch.manual_seed(5)
        adapted = adapted_encoder(base, config, "tiny")
        trained = {
            name: torch.randn_like(each) / 10 for name, each in adapted.named_parameters() if each.requires_grad
        }
        dataset = DatasetRef("chats", "1", "d" * 64, "ready", 40)
        card = adapter_card(config, dataset, base, "tiny", {"loss_last": 1.0})
        write_adapter(folder, adapted, trained, card)
        return folder

    return write


@pytest.fixture(scope="session")
def pair_rows(token_rows) -> PairTable:
    """Pairs of each row and its successor tokens: 40 pairs, of which two have the same query."""
    rows = [token_rows.row(index).tolist() for index in range(len(token_rows))]
    rows[-1] = rows[-2]
    return PairTable.of(
        {"id": f"{index:02d}", "query": row, "positive": [token + 1 for token in row[1:]], "negative": None}
        for index, row in enumerate(rows)
    )
