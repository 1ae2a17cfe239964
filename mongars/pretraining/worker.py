"""One worker of a pretraining run, from the prepared text to the model's folder.

Runs in any process, without Ray. Several workers need a process group.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoTokenizer

from mongars.pretraining.card import write_card
from mongars.pretraining.job import PretrainJob, PretrainReport
from mongars.pretraining.loop import pretrain_steps
from mongars.pretraining.model import fresh_model, write_model
from mongars.pretraining.objective import matmul_precision
from mongars.pretraining.state import TrainingState
from mongars.storage.atomic import new_folder
from mongars.training.objectives.precision import computes_in_bf16
from mongars.training.runtime.collective import sum_over_workers


def run_pretraining(
    job: PretrainJob,
    *,
    rank: int = 0,
    device: torch.device | None = None,
    report: Callable[[PretrainReport], None] = lambda _: None,
) -> None:
    """Train to the end, from the checkpoint if there is one; rank 0 writes the model.

    Raises TrainingError, and TrainingStoppedError if `job.stop` appears.
    """
    config = job.config
    torch.set_num_threads(config.threads)
    tokenizer = AutoTokenizer.from_pretrained(job.tokenizer, local_files_only=True)
    rows = np.load(job.rows, mmap_mode="r", allow_pickle=False)
    state = TrainingState.fresh(fresh_model(config, tokenizer).to(device or "cpu"), config)
    if job.checkpoint.exists():
        state.load(job.checkpoint, config)
    several = config.workers > 1
    is_first = rank == 0

    def should_stop() -> bool:
        requested = is_first and job.stop.exists()
        return sum_over_workers([float(requested)])[0] > 0 if several else requested

    with matmul_precision(computes_in_bf16(config.precision, state.model.device)):
        pretrain_steps(
            state,
            rows,
            config,
            heldout=_heldout(job) if is_first else None,
            wrap=DistributedDataParallel if several else lambda objective: objective,
            rank=rank,
            mean_over_workers=lambda loss: sum_over_workers([loss])[0] / config.workers if several else loss,
            report=report if is_first else lambda _: None,
            save=(lambda: state.save(job.checkpoint, config)) if is_first else lambda: None,
            should_stop=should_stop,
        )
    if is_first:
        with new_folder(job.output) as folder:
            write_card(state, job, int(rows.size), folder)
            write_model(state.model, tokenizer, folder)


def _heldout(job: PretrainJob) -> np.ndarray | None:
    if job.heldout is None:
        return None
    rows: np.ndarray = np.load(job.heldout, allow_pickle=False)
    return rows[: job.config.heldout_rows]
