"""Make a base model from scratch, and gather the public text for one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mongars.settings import Settings
from mongars.workflows.train import RETRIES
from mongars.workflows.wiring import SILENT, Progress, training_note

if TYPE_CHECKING:
    from mongars.pretraining.corpus.build import Account
    from mongars.pretraining.job import PretrainReport
    from mongars.pretraining.trainer import PretrainedBase


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainOptions:
    """How a base is made.

    `hyperparameters` change the recipe, as `steps=60`. `heldout` is a file to measure on, never trained on. The
    run keeps its state in `work`, by default the pretraining folder of the settings. `gpu` gives each worker a
    GPU; `retries` is how often workers that died are restarted.
    """

    hyperparameters: Sequence[str] = ()
    heldout: Path | None = None
    work: Path | None = None
    gpu: bool = False
    retries: int = RETRIES


def pretrain(
    settings: Settings,
    inputs: Sequence[Path],
    output: Path,
    options: PretrainOptions,
    *,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> "PretrainedBase":
    """Train a base on JSON Lines of conversations or texts, on the Ray at `ray` or a local one.

    The same call resumes a run that did not end. Raises SettingsError for hyperparameters and InputError for
    files, both before Ray starts, and what BasePretrainer raises.
    """
    from mongars.pretraining.config import PretrainConfig
    from mongars.pretraining.trainer import BasePretrainer, check_paths
    from mongars.serving.cluster import ray_session
    from mongars.training.config import config_from
    from mongars.training.runtime.ray_train import Workers

    config = config_from(PretrainConfig, options.hyperparameters)
    check_paths(inputs, options.heldout, output)
    with ray_session(settings, ray):
        progress.stage("Pretraining")
        made = BasePretrainer(
            config,
            inputs,
            output,
            heldout=options.heldout,
            work_dir=options.work or settings.pretraining_dir,
            tracking_uri=settings.tracking,
            on_report=lambda report: _report(progress, report),
            workers=Workers(config.workers, options.gpu, retries=options.retries),
        ).train()
    for bad in made.bad_lines:
        progress.warn(f"{bad.path}:{bad.line}: {bad.reason}")
    return made


def gather_corpus(data: Path, output: Path, *, seed: int = 0, progress: Progress = SILENT) -> "list[Account]":
    """Gather the text of mongars-nano from the public data sets in `data`; return an account of each.

    Raises InputError when a file is missing or malformed.
    """
    from mongars.pretraining.corpus.build import DATA_SETS, gather

    gathered: list[Account] = []

    def report(account: "Account") -> None:
        gathered.append(account)
        progress.update(len(gathered), len(DATA_SETS), f"{account.name}: {account.documents:,} documents")

    progress.stage("Gathering text")
    return gather(data, output, seed=seed, on_source=report)


def _report(progress: Progress, report: "PretrainReport") -> None:
    point = report.point
    note = training_note(point.loss, report.tokens_per_second)
    progress.update(point.step, report.steps, note)
    if point.heldout_loss is not None:
        progress.warn(f"step {point.step} of {report.steps}: {note}, held-out loss {point.heldout_loss:.3f}")
