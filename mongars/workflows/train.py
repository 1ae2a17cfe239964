"""Train an adapter on a dataset version, and manage what unfinished training runs left on disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mongars.errors import NotFoundError
from mongars.settings import Settings
from mongars.workflows.wiring import DEFAULT_NAME, SILENT, Progress, open_catalog, open_registry, training_note

if TYPE_CHECKING:
    from mongars.records import DatasetRef
    from mongars.training.config import AdapterRecipe
    from mongars.training.runtime.unfinished_runs import UnfinishedRun as UnfinishedRun  # noqa: PLC0414 (for the command line)
    from mongars.training.trainer import TrainedAdapter

Objective = Literal["mntp", "contrastive"]
RETRIES = 3


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is carried out, and where it starts.

    `gpu` gives each worker a GPU; `retries` is how often workers that died are restarted. `resume_from` is the
    checkpoint of another run, `init_from` an adapter, by folder or digest, whose weights the run starts from.
    """

    gpu: bool = False
    retries: int = RETRIES
    resume_from: Path | None = None
    init_from: str | None = None


def train(
    settings: Settings,
    dataset: str = DEFAULT_NAME,
    *,
    objective: Objective = "mntp",
    hyperparameters: Sequence[str] = (),
    run: RunOptions | None = None,
    output: Path | None = None,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> "TrainedAdapter":
    """Train on NAME@VERSION, or the latest version of NAME, on the Ray at `ray` or a local one.

    `hyperparameters` change the recipe of the objective, as `steps=60`. Everything is checked before Ray starts.
    Raises SettingsError for them, DatasetNotFoundError, and what `adapter_folder` and AdapterTrainer raise.
    """
    from mongars.serving.cluster import ray_session
    from mongars.training.config import RECIPES, config_from

    run = run or RunOptions()
    config = config_from(RECIPES[objective], hyperparameters)
    name, _, version = dataset.partition("@")
    catalog = open_catalog(settings)
    ref = catalog.get(name, version or "latest")
    catalog.require_ready(ref)
    start = adapter_folder(settings, run.init_from) if run.init_from else None
    with ray_session(settings, ray):
        progress.stage("Training")
        return train_version(settings, ref, config, run, init_from=start, output=output, progress=progress)


def train_version(
    settings: Settings,
    dataset: "DatasetRef",
    config: "AdapterRecipe",
    run: RunOptions,
    *,
    init_from: Path | None = None,
    output: Path | None = None,
    progress: Progress = SILENT,
) -> "TrainedAdapter":
    """Train on a version, from the adapter in `init_from` if given. Ray must be running in this process."""
    from mongars.training.trainer import AdapterTrainer

    catalog = open_catalog(settings)
    catalog.require_ready(dataset)
    return AdapterTrainer(
        config,
        parts=catalog.parts(dataset),
        dataset=dataset,
        base_path=settings.base_model,
        output_dir=output or settings.training_dir,
        tracking_uri=settings.tracking,
        on_progress=lambda step, steps, loss, rate: progress.update(step, steps, training_note(loss, rate)),
        resume_from=run.resume_from,
        init_from=init_from,
        use_gpu=run.gpu,
        retries=run.retries,
        cpu_optimizations=settings.cpu_optimizations,
    ).train()


def adapter_folder(settings: Settings, name: str) -> Path:
    """Return the folder of an encoder adapter, given as that folder or as a digest in the registry.

    Adapters that the gate rejected count: stage 2 may start from one. Raises ModelNotFoundError when there is no
    such adapter, AdapterRefusedError for one of another kind or base.
    """
    from mongars.lm.base_files import base_folder, base_model_digest
    from mongars.registry import find_adapter

    if Path(name).is_dir():
        return Path(name)
    base = base_model_digest(base_folder(settings.base_model))
    return find_adapter(open_registry(settings), name, base_digest=base, without=("revoked", "pruned"))[1]


def list_runs(settings: Settings, folder: Path | None = None) -> "list[UnfinishedRun]":
    """Return the runs that left something behind, of adapters in `folder` and of bases."""
    from mongars.training.runtime.unfinished_runs import unfinished_runs

    return unfinished_runs(folder or settings.training_dir, settings.pretraining_dir)


def delete_runs(settings: Settings, keys: Sequence[str], folder: Path | None = None) -> None:
    """Delete what these runs left. Raises NotFoundError, before anything is deleted, for an unknown key."""
    from mongars.training.runtime.unfinished_runs import delete_run

    known = {run.key: run for run in list_runs(settings, folder)}
    if unknown := [key for key in keys if key not in known]:
        raise NotFoundError(f"No unfinished run {', '.join(unknown)}.", remedy="See: mongars runs list")
    for key in dict.fromkeys(keys):
        delete_run(known[key])
