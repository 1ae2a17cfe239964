"""Train an adapter from a dataset version: by MNTP, or in stage 2 from such an adapter.

    ray job submit --working-dir . -- python jobs/train_mntp.py --dataset NAME[@VERSION]
    ... --objective contrastive --init-from FOLDER|DIGEST

Prints the adapter's folder and metrics as JSON, progress on stderr. The job runs in a copy of its working folder,
so give MONGARS_HOME, MONGARS_MODELS_DIR and MONGARS_BASE_MODEL as absolute paths. Exit codes are those of
`mongars`. A run that did not end goes on when it is submitted again: SIGINT and SIGTERM let it keep where it is
after the step that runs. `ray job stop` sends SIGTERM, and SIGKILL 3 s later: a longer step is lost, and
so are those since the last checkpoint (knob `checkpoint_steps`). Knob `min_workers` makes the run elastic: it goes
on with as many workers, from that to `workers`, as the cluster has room for.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.errors import MongarsError
from mongars.records import as_json
from mongars.serving.cluster import job_session
from mongars.settings import load_settings
from mongars.training.config import RECIPES, config_from
from mongars.training.trainer import AdapterTrainer, TrainedAdapter
from mongars.workflows.assembly import adapter_folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""
    flags = _flags().parse_args(arguments)
    try:
        trained = _train(flags)
    except MongarsError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(as_json(trained) | {"folder": str(trained.folder)}) + "\n")
    return 0


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train an adapter from a dataset version.")
    parser.add_argument("--dataset", required=True, metavar="NAME[@VERSION]", help="the latest version by default")
    parser.add_argument("--output", type=Path, help="where adapters go; MONGARS_HOME/training by default")
    parser.add_argument("--set", action="append", default=[], metavar="KNOB=JSON", help="a knob of the recipe")
    parser.add_argument("--objective", choices=RECIPES, default="mntp", help="stage 1 or 2; mntp by default")
    parser.add_argument("--init-from", metavar="FOLDER|DIGEST", help="adapter whose weights the run starts from")
    parser.add_argument("--resume-from", type=Path, metavar="FILE", help="checkpoint of another run to go on from")
    parser.add_argument("--gpu", action="store_true", help="one GPU for each worker")
    return parser


def _train(flags: argparse.Namespace) -> TrainedAdapter:
    settings = load_settings().resolved()
    config = config_from(RECIPES[flags.objective], flags.set)
    name, _, version = flags.dataset.partition("@")
    catalog = DatasetCatalog(settings.datasets_dir)
    dataset = catalog.get(name, version or "latest")
    catalog.require_ready(dataset)
    parent = adapter_folder(settings, flags.init_from) if flags.init_from else None
    with job_session(settings):
        return AdapterTrainer(
            config,
            parts=catalog.parts(dataset),
            dataset=dataset,
            base_path=settings.base_model,
            output_dir=flags.output or settings.training_dir,
            tracking_uri=settings.tracking,
            on_progress=_show,
            resume_from=flags.resume_from,
            init_from=parent,
            use_gpu=flags.gpu,
        ).train()


def _show(step: int, steps: int, loss: float, tokens_per_second: float) -> None:
    sys.stderr.write(f"step {step} of {steps}: loss {loss:.3f}, {tokens_per_second:.0f} tokens/s\n")


if __name__ == "__main__":
    sys.exit(main())
