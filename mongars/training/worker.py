"""One worker of a run, from the base model to the saved adapter.

Owns the order of a worker's work. Must not know Ray: it runs in any process that has a process group.
"""

from collections.abc import Callable, Sequence

import torch

from mongars.errors import TrainingError
from mongars.neurons.base import load_base
from mongars.training.adapter import adapter_card, mntp_model, write_adapter
from mongars.training.collective import sum_over_workers
from mongars.training.engine import DeepSpeedEngine
from mongars.training.loop import train_steps
from mongars.training.masking import Masker
from mongars.training.run import StepReport, TrainingJob
from mongars.training.text import TokenTable


def run_worker(
    job: TrainingJob,
    rows: TokenTable,
    *,
    rank: int,
    device: torch.device,
    report: Callable[[StepReport], None],
) -> None:
    """Train, and on rank 0 report each step and write the adapter. Raises TrainingError."""
    config = job.config
    torch.set_num_threads(config.threads)
    base = load_base(job.base_path, dtype=torch.float32)
    if base.digest != job.base_digest:
        raise TrainingError("The base model changed since the run was started.", remedy="Start it again.")
    masker = Masker.of(config, base.tokenizer)
    torch.manual_seed(config.seed)  # the fresh LoRA weights
    model = mntp_model(base, config, job.base_name)
    engine = DeepSpeedEngine(model, config)
    reports = train_steps(
        engine,
        rows,
        masker,
        config,
        rank=rank,
        sum_over_workers=sum_over_workers,
        report=report if rank == 0 else lambda _: None,
        device=device,
    )
    trained = engine.trained_weights()
    if rank == 0:
        card = adapter_card(config, job.dataset, base, job.base_name, run_metrics(reports))
        write_adapter(job.folder, model.encoder, trained, card)


def run_metrics(reports: Sequence[StepReport]) -> dict[str, float]:
    """Return what the card says of a run: nothing that differs between two equal runs."""
    metrics = {"loss_first": reports[0].loss, "loss_last": reports[-1].loss}
    accuracies = [report.accuracy for report in reports if report.accuracy is not None]
    if accuracies:
        metrics |= {"masked_accuracy_first": accuracies[0], "masked_accuracy_last": accuracies[-1]}
    return metrics
