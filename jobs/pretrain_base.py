"""Make a base model from conversations and texts, from scratch.

    ray job submit --working-dir . -- python jobs/pretrain_base.py --input FILE.jsonl[.gz] --output FOLDER

A line is a conversation, `{"id", "messages": [{"role", "content"}]}`, or a text, `{"text"}`. Prints the folder
and its digest as JSON, progress on stderr. A run that did not end goes on when the same command is given again:
SIGINT and SIGTERM let it keep where it is after the step that runs (`ray job stop` sends SIGTERM, and SIGKILL 3 s
later). Under `ray job submit` the job runs in a copy of its folder: give absolute paths, also in
MONGARS_HOME. Exit codes: 0 done, 1 some lines could not be read (they are named and left out), else those of
`mongars`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mongars.cli.output import Stages, stages
from mongars.errors import MongarsError
from mongars.pretraining.config import PretrainConfig
from mongars.pretraining.run import PretrainReport
from mongars.pretraining.trainer import BasePretrainer, MadeBase, check_places
from mongars.serving.cluster import job_session
from mongars.settings import load_settings
from mongars.training.config import config_from
from mongars.training.runtime.ray_train import Workers


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""
    flags = _flags().parse_args(arguments)
    try:
        with stages() as show:
            made = _make(flags, show)
    except MongarsError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("Stopped. The same command goes on from the last checkpoint.\n")
        return 130  # 128 + SIGINT, as shells have it
    sys.stdout.write(json.dumps({"folder": str(made.folder), "digest": made.digest, "run_id": made.run_id}) + "\n")
    for line in made.bad_lines:
        sys.stderr.write(f"{line.path}:{line.line}: {line.reason}\n")
    return 1 if made.bad_lines else 0


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Make a base model from conversations and texts, from scratch.")
    parser.add_argument(
        "--input",
        dest="inputs",
        type=Path,
        action="append",
        required=True,
        help="JSONL or .jsonl.gz; repeat it, also with the same file, which then counts more",
    )
    parser.add_argument("--output", type=Path, required=True, help="a folder that is empty or does not exist")
    parser.add_argument("--heldout", type=Path, help="a file to measure on, never trained on")
    parser.add_argument("--work", type=Path, help="where a run is kept; MONGARS_HOME/pretraining by default")
    parser.add_argument("--set", action="append", default=[], metavar="KNOB=JSON", help="a knob of PretrainConfig")
    parser.add_argument("--gpu", action="store_true", help="one GPU for each worker")
    return parser


def _make(flags: argparse.Namespace, show: Stages) -> MadeBase:
    settings = load_settings().resolved()
    config = config_from(PretrainConfig, flags.set)
    check_places(flags.inputs, flags.heldout, flags.output)  # mistakes show before a Ray is started
    with job_session(settings):
        show.stage("Tokenising, then training")
        return BasePretrainer(
            config,
            flags.inputs,
            flags.output,
            heldout=flags.heldout,
            work_dir=flags.work or settings.pretraining_dir,
            tracking_uri=settings.tracking,
            on_report=lambda report: _show(show, report),
            workers=Workers(config.workers, flags.gpu, retries=3),
        ).train()


def _show(show: Stages, report: PretrainReport) -> None:
    point = report.point
    heldout = "" if point.heldout_loss is None else f", held out {point.heldout_loss:.3f}"
    note = f"loss {point.loss:.3f}{heldout}, {report.tokens_per_second:,.0f} tokens/s"
    show.update(point.step, report.steps, note)
    if heldout:
        show.warn(f"step {point.step} of {report.steps}: {note}")


if __name__ == "__main__":
    sys.exit(main())
