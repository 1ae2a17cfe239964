"""Throughput of the whole curation against NeMo Curator's quality rules alone.

    python benchmarks/curation.py --data FILE [--nemo PYTHON] [--limit 4000] [--cpus 1 2 4] [--repeats 3] [--json]

FILE is JSON Lines of conversations, plain or gzip. Ours is `curate` as users run it, from the file to the
published version: reading, quality, language, personal data with person names, leak check, duplicates, splits,
writing. It runs on a local Ray with the given number of logical CPUs, started and warmed up before the clock. Our
quality rules alone are measured as well, in this process, from file to file. NeMo Curator reads the same
conversations (one text each, one turn per line), runs the English heuristic cascade that it ships, and writes the
rest, in one process of a separate environment, whose Python is given by `--nemo`. Rounds are interleaved;
times are wall time.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import ray

from benchmarks.common import markdown, rate_and_ratio, run
from mongars.cli.output import Stages
from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.curation.filters.quality import judge
from mongars.curation.pipeline import curate
from mongars.curation.recipe import CurationRecipe, CurationReport
from mongars.curation.sources import FileSource
from mongars.errors import InputError, UnavailableError
from mongars.formats.jsonl import read_conversations, write_conversations
from mongars.records import Conversation

PEER = Path(__file__).with_name("peers") / "nemo_quality.py"
NEMO = "NeMo Curator, quality alone"
RULES = "ours, quality alone, 1 process"
# Enough for every worker process to load its models.
WARM_UP_LINES = 256


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and return the exit code."""
    flags = _flags().parse_args(arguments)
    return run(lambda progress: measure(flags, progress), None if flags.json else show)


def measure(flags: argparse.Namespace, progress: Stages) -> dict[str, Any]:
    """Return the rate of each contender in conversations per second, and how many each kept."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = _lines(flags.data, flags.limit)
        source, warm, texts = folder / "in.jsonl", folder / "warm.jsonl", folder / "texts.jsonl"
        source.write_text("".join(lines), encoding="utf-8")
        warm.write_text("".join(lines[:WARM_UP_LINES]), encoding="utf-8")
        texts.write_text("".join(map(_as_text, lines)), encoding="utf-8")
        names = [*map(_label, flags.cpus), RULES, *([NEMO] if flags.nemo else [])]
        rates: dict[str, list[float]] = {name: [] for name in names}
        kept: dict[str, int] = {}
        for repeat in range(1, flags.repeats + 1):
            if flags.nemo:  # first, because it fails at once where it is not installed
                progress.stage(f"repeat {repeat} of {flags.repeats}: NeMo Curator")
                measured = _peer(flags.nemo, texts)
                rates[NEMO] += measured["rates"]
                kept[NEMO] = measured["kept"]
            for cpus in flags.cpus:
                progress.stage(f"repeat {repeat} of {flags.repeats}: ours on {cpus}")
                seconds, report = _ours(source, warm, folder / f"{cpus}-{repeat}", cpus)
                rates[_label(cpus)].append(len(lines) / seconds)
                kept[_label(cpus)] = report.rows_kept
            progress.stage(f"repeat {repeat} of {flags.repeats}: our rules of quality alone")
            seconds, kept[RULES] = _rules(source, folder / "judged.jsonl")
            rates[RULES].append(len(lines) / seconds)
    return {"conversations": len(lines), "cores": psutil.cpu_count(), "rates": rates, "kept": kept}


def show(result: dict[str, Any]) -> str:
    """Return a row per contender, with its ratio to NeMo Curator's rate."""
    rates = result["rates"]
    rows = [
        [
            name,
            rate_and_ratio(rates, name, name)[0],
            rate_and_ratio(rates, NEMO, name)[1] if NEMO in rates else "",
            result["kept"][name],
        ]
        for name in rates
    ]
    return f"{result['conversations']} conversations, {result['cores']} cores\n\n" + markdown(
        ["contender", "conversations/s", "ratio to NeMo Curator", "kept"], rows
    )


def _ours(source: Path, warm: Path, folder: Path, cpus: int) -> tuple[float, CurationReport]:
    """Return the seconds of one curation into a new catalog, and its report."""
    recipe = CurationRecipe()
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False)
    try:
        curate(FileSource([warm]), recipe, DatasetCatalog(folder / "warm"), secret=bytes(32), name="bench")
        started = time.perf_counter()
        report = curate(
            FileSource([source]), recipe, DatasetCatalog(folder / "datasets"), secret=bytes(32), name="bench"
        )
        return time.perf_counter() - started, report
    finally:
        ray.shutdown()


def _rules(source: Path, target: Path) -> tuple[float, int]:
    """Return the seconds that judging every conversation takes without Ray, and how many are kept."""
    started = time.perf_counter()
    read = (item for item in read_conversations(source) if isinstance(item, Conversation))
    kept = write_conversations(target, (talk for talk in read if judge(talk.turns).reason is None))
    return time.perf_counter() - started, kept


def _peer(python: str, texts: Path) -> dict[str, Any]:
    """Return the peer's rates and what it kept. Raises UnavailableError."""
    task = json.dumps({"path": str(texts), "repeats": 1})
    done = subprocess.run([python, str(PEER)], input=task, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"NeMo Curator failed: {done.stderr[-500:]}", remedy="See benchmarks/README.md.")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _lines(path: Path, limit: int) -> list[str]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open() as stream:
            return [line for line in islice(stream, limit) if line.strip()]
    except OSError as error:
        raise InputError(f"Cannot read {path}.", remedy="See benchmarks/README.md.") from error


def _as_text(line: str) -> str:
    text = "\n".join(message["content"] for message in json.loads(line)["messages"])
    return json.dumps({"text": text}) + "\n"


def _label(cpus: int) -> str:
    return f"ours, whole pipeline, {cpus} Ray CPU{'s' if cpus > 1 else ''}"


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="JSON Lines of conversations, plain or gzip")
    parser.add_argument("--nemo", help="Python of an environment with nemo-curator")
    parser.add_argument("--limit", type=int, default=4_000, help="conversations")
    parser.add_argument("--cpus", type=int, nargs="+", default=[1, 2, 4], help="logical CPUs of Ray")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
