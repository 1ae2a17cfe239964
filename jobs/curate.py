"""Curate conversation files into a dataset version; for `ray job submit -- python jobs/curate.py ...`.

Owns the flags. The report goes to stdout as JSON, all else to stderr. Exit codes: 0 done, 1 some lines could
not be read or the version was quarantined, 2 a mistake in the flags or the settings, else the code of the error.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mongars.curation.recipe import CurationRecipe, CurationReport
from mongars.curation.sources import FileSource
from mongars.errors import MongarsError
from mongars.records import as_json
from mongars.serving.cluster import job_session
from mongars.settings import load_settings
from mongars.workflows.assembly import curate_source, prior_versions


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""
    flags = _flags().parse_args(arguments)
    try:
        report = _curate(flags)
    except MongarsError as error:
        _say(f"error: {error}")
        return error.exit_code
    for bad in report.bad_lines:
        _say(f"{bad.path}:{bad.line}: {bad.reason}")
    if report.dataset.state != "ready":
        _say(f"{report.dataset.name} {report.dataset.version} is {report.dataset.state}: {dict(report.leaks)}")
    sys.stdout.write(json.dumps(as_json(report), indent=2) + "\n")
    return 1 if report.bad_lines or report.dataset.state != "ready" else 0


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Curate conversation files into a dataset version.")
    parser.add_argument(
        "--input",
        dest="inputs",
        type=Path,
        action="append",
        required=True,
        help="JSONL, .jsonl.gz or .parquet; repeat it",
    )
    parser.add_argument("--name", required=True, help="name of the dataset")
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="NAME[@VERSION]",
        help="leave out what this version holds; repeat it",
    )
    parser.add_argument("--models-dir", type=Path, help="in place of MONGARS_MODELS_DIR")
    parser.add_argument("--test-share", type=float, default=CurationRecipe().test_share)
    return parser


def _curate(flags: argparse.Namespace) -> CurationReport:
    settings = load_settings()
    if flags.models_dir:
        settings = settings.model_copy(update={"models_dir": flags.models_dir})
    settings = settings.resolved()
    earlier = prior_versions(settings, flags.against)
    with job_session(settings):
        return curate_source(
            settings,
            FileSource(flags.inputs),
            name=flags.name,
            test_share=flags.test_share,
            on_progress=_show,
            exclude=earlier,
        )


def _show(done: int, total: int | None, stage: str) -> None:
    _say(f"{stage}: {done}" + (f" of {total}" if total is not None else ""))


def _say(message: str) -> None:
    sys.stderr.write(message + "\n")


if __name__ == "__main__":
    sys.exit(main())
