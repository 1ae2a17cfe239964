"""One worker of a run, from the base model to the saved adapter.

Owns the order of a worker's work, and where it begins: at the run's own checkpoint, at that of another run which
it was given, or at step 0, with fresh weights or those of another adapter. Must not know Ray: it runs in any
process that has a process group.
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
    """Train to the end; rank 0 reports each step, keeps checkpoints and writes the adapter.

    The world is that of the process group; where the recipe is elastic it may be another than that of the run's
    checkpoint. Raises TrainingError, TrainingStoppedError when `job.stop` appears, ResourceError without space.
    """
    if is_complete(job.folder):
        return  # the workers were started again after their last work: one died then, or the cluster grew
    config = job.config.with_world_size(world_size())
    torch.set_num_threads(config.threads)
    base = load_base(job.base_path, dtype=torch.float32, cpu_optimizations=job.cpu_optimizations)
    if base.digest != job.base_digest:
        raise TrainingError("The base model changed since the run was started.", remedy="Start it again.")
    objective = objective_of(config, base, rows, rank)
    torch.manual_seed(config.seed)  # the fresh LoRA weights
    adapted = adapted_encoder(base, config, job.base_name)
    if job.parent:
        load_into(adapted, job.parent)
    engine, start = _begin(job, config, objective.model(adapted))
    first = rank == 0
    with naming_full_disk(job.folder.parent):
        end = train_steps(
            engine,
            objective,
            config,
            start.resized(config.workers),
            rank=rank,
            sum_over_workers=sum_over_workers,
            keep=lambda progress: _keep(engine, progress, job, first=first),
            stopping=job.stop.exists if first else lambda: False,
            report=report if first else lambda _: None,
            device=device,
        )
        trained = engine.trained_weights()
        if first:
            card = adapter_card(
                job.config,
                job.dataset,
                base,
                job.base_name,
                end.metrics,
                resumed_from=job.resumed.digest if job.resumed else None,
                init_from=job.parent.digest if job.parent else None,
                world_sizes=end.world_sizes if job.config.min_workers else None,
            )
            write_adapter(job.folder, adapted, trained, card)


def objective_of(recipe: AdapterRecipe, base: Base, rows: Rows, rank: int) -> MNTPObjective | ContrastiveObjective:
    """Return what a worker of this recipe learns from the rows of its kind."""
    if isinstance(recipe, MNTPConfig) and isinstance(rows, TokenTable):
        return MNTPObjective(recipe, base, rows, rank)
    if isinstance(recipe, ContrastiveConfig) and isinstance(rows, PairTable):
        return ContrastiveObjective(recipe, rows, rank, gather=gather_over_workers)
    raise TypeError(f"{type(recipe).__name__} does not train on a {type(rows).__name__}")


def _begin(
    job: TrainingJob, config: AdapterRecipe, model: MNTPModel | EmbeddingModel
) -> tuple[DeepSpeedEngine, Progress]:
    """Return the engine where the run goes on. Weights come before the engine, which copies and shards them."""
    found = job.checkpoint if job.checkpoint.exists() else job.resumed and job.resumed.path
    if not found:
        return DeepSpeedEngine(model, config), Progress()
    kept = read_checkpoint(found)
    load_weights(model.encoder, kept.weights)
    engine = DeepSpeedEngine(model, config)
    engine.resume(kept.moments, kept.progress.step)
    return engine, kept.progress


def _keep(engine: DeepSpeedEngine, progress: Progress, job: TrainingJob, *, first: bool) -> None:
    """Gather the state on every worker, which sharding demands, and write it on one."""
    kept = Checkpoint(progress, engine.trained_weights(), engine.moments())
    if first:
        write_checkpoint(job.checkpoint, kept, job.fixed, f"{job.dataset.name}@{job.dataset.version}")
