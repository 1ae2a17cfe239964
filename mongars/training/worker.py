"""One worker of a run, from the base model to the saved adapter. Runs in any process with a process group.

A run starts from its own checkpoint if there is one, else from that of another run (`resume_from`), else at step 0
with fresh weights or those of another adapter (`init_from`).
"""

from collections.abc import Callable

import torch

from mongars.errors import TrainingError
from mongars.lm.base import Base, load_base
from mongars.storage.atomic import naming_full_disk
from mongars.training.config import AdapterRecipe, ContrastiveConfig, MNTPConfig
from mongars.training.data.pairs import PairTable
from mongars.training.data.tokenize import TokenTable
from mongars.training.loop import train_steps
from mongars.training.objectives.contrastive import ContrastiveObjective, EmbeddingModel
from mongars.training.objectives.mntp import MNTPModel, MNTPObjective
from mongars.training.runtime.adapter_writer import adapted_encoder, adapter_card, write_adapter
from mongars.training.runtime.checkpoint import Checkpoint, load_weights, read_checkpoint, write_checkpoint
from mongars.training.runtime.collective import gather_over_workers, sum_over_workers, world_size
from mongars.training.runtime.deepspeed_engine import DeepSpeedEngine
from mongars.training.runtime.init_adapter import load_into
from mongars.training.runtime.job import Progress, StepReport, TrainingJob, is_complete

Rows = TokenTable | PairTable


def run_worker(
    job: TrainingJob,
    rows: Rows,
    *,
    rank: int,
    device: torch.device,
    report: Callable[[StepReport], None],
) -> None:
    """Train to the end; rank 0 reports each step and writes checkpoints and the adapter.

    The world size is that of the process group, which in an elastic run may differ from that of the checkpoint.
    Raises TrainingError, TrainingStoppedError if `job.stop` appears, and ResourceError on a full disk.
    """
    if is_complete(job.folder):
        return  # restarted after the end, because a worker died then or the cluster grew
    config = job.config.with_world_size(world_size())
    torch.set_num_threads(config.threads)
    base = load_base(job.base_path, dtype=torch.float32, cpu_optimizations=job.cpu_optimizations)
    if base.digest != job.base_digest:
        raise TrainingError("The base model changed since the run started.", remedy="Start it again.")
    objective = objective_of(config, base, rows, rank)
    torch.manual_seed(config.seed)  # the fresh LoRA weights
    adapted = adapted_encoder(base, config, job.base_name)
    if job.init_from:
        load_into(adapted, job.init_from)
    engine, start = _start(job, config, objective.model(adapted))
    is_first = rank == 0
    with naming_full_disk(job.folder.parent):
        end = train_steps(
            engine,
            objective,
            config,
            start.resized(config.workers),
            rank=rank,
            sum_over_workers=sum_over_workers,
            save=lambda progress: _save(engine, progress, job, is_first=is_first),
            should_stop=job.stop.exists if is_first else lambda: False,
            report=report if is_first else lambda _: None,
            device=device,
        )
        trained = engine.trained_weights()
        if is_first:
            card = adapter_card(
                job.config,
                job.dataset,
                base,
                job.base_name,
                end.metrics,
                resumed_from=job.resume_from.digest if job.resume_from else None,
                init_from=job.init_from.digest if job.init_from else None,
                world_sizes=end.world_sizes if job.config.min_workers else None,
            )
            write_adapter(job.folder, adapted, trained, card)


def objective_of(recipe: AdapterRecipe, base: Base, rows: Rows, rank: int) -> MNTPObjective | ContrastiveObjective:
    """Return the objective of a recipe over its kind of rows."""
    if isinstance(recipe, MNTPConfig) and isinstance(rows, TokenTable):
        return MNTPObjective(recipe, base, rows, rank)
    if isinstance(recipe, ContrastiveConfig) and isinstance(rows, PairTable):
        return ContrastiveObjective(recipe, rows, rank, gather=gather_over_workers)
    raise TypeError(f"{type(recipe).__name__} does not train on a {type(rows).__name__}")


def _start(
    job: TrainingJob, config: AdapterRecipe, model: MNTPModel | EmbeddingModel
) -> tuple[DeepSpeedEngine, Progress]:
    """Return the engine and the progress that the run starts with."""
    path = job.checkpoint if job.checkpoint.exists() else job.resume_from and job.resume_from.path
    if not path:
        return DeepSpeedEngine(model, config), Progress()
    checkpoint = read_checkpoint(path)
    load_weights(model.encoder, checkpoint.weights)  # before the engine, which copies and shards them
    engine = DeepSpeedEngine(model, config)
    engine.resume(checkpoint.moments, checkpoint.progress.step)
    return engine, checkpoint.progress


def _save(engine: DeepSpeedEngine, progress: Progress, job: TrainingJob, *, is_first: bool) -> None:
    """Write a checkpoint. Every worker must call it, because the state is gathered from all; rank 0 writes."""
    checkpoint = Checkpoint(progress, engine.trained_weights(), engine.moments())
    if is_first:
        write_checkpoint(job.checkpoint, checkpoint, job.fixed, f"{job.dataset.name}@{job.dataset.version}")
