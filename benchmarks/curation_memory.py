"""Memory that a curation takes, by the number of conversations.

    python benchmarks/curation_memory.py [--rows 20000 80000] [--turns 8] [--store-mb 300]

Distinct conversations of random words are written to a file and curated on a Ray with one CPU; every language of
the detector is accepted. The private memory (USS) of this process, which holds the columns of every row, and of
Ray's workers is sampled ten times per second. Texts are in Ray's object store, whose size is fixed and which
spills to disk. The memory of Ray's own services is not counted: it does not depend on the rows.
"""

import argparse
import random
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import psutil

from benchmarks.common import markdown, run
from mongars.cli.output import Stages
from mongars.formats.jsonl import write_conversations
from mongars.records import Conversation, Turn

MIB = 2**20
CONSONANTS = "bcdfghjklmnprstvwxz"
# 1,805 syllables, so that two conversations share few shingles, as real ones do.
SYLLABLES = tuple(
    first + vowel + last for first in "bcdfghjklmnpqrstvwz" for vowel in "aeiou" for last in CONSONANTS
)


class Peak:
    """Records the peak private memory of this process and of its workers while it is open."""

    def __init__(self, every_s: float = 0.1) -> None:
        self.driver = self.workers = self.together = 0
        self._every_s, self._over = every_s, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._over.wait(self._every_s):
            driver = own.memory_full_info().uss
            workers = sum(map(_worker_memory, own.children(recursive=True)))
            self.driver, self.workers = max(self.driver, driver), max(self.workers, workers)
            self.together = max(self.together, driver + workers)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit code."""
    flags = _flags().parse_args(arguments)
    return run(lambda progress: measure(flags, progress), None if flags.json else show)


def measure(flags: argparse.Namespace, progress: Stages) -> dict[str, Any]:
    """Return the peaks in bytes for each number of rows."""
    import ray

    from mongars.curation.catalog.catalog import DatasetCatalog
    from mongars.curation.filters.language import CONTRAST
    from mongars.curation.pipeline import curate
    from mongars.curation.recipe import CurationRecipe
    from mongars.curation.sources import FileSource

    peaks = []
    store = flags.store_mb * MIB
    ray.init(address="local", num_cpus=1, object_store_memory=store, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory(prefix="mongars-memory-") as place:
        for rows in flags.rows:
            progress.stage(f"{rows} conversations")
            source = Path(place) / f"{rows}.jsonl"
            write_conversations(source, conversations(rows, flags.seed, flags.turns))
            catalog = DatasetCatalog(Path(place) / f"datasets-{rows}")
            with Peak() as peak:
                report = curate(
                    FileSource([source]),
                    CurationRecipe(languages=CONTRAST),
                    catalog,
                    secret=b"s" * 32,
                    name="memory",
                    on_progress=progress.update,
                )
            found = {"driver": peak.driver, "workers": peak.workers, "together": peak.together}
            peaks.append({"rows": rows, "kept": report.rows_kept} | found)
    ray.shutdown()
    return {"store": flags.store_mb * MIB, "peaks": peaks}


def show(result: dict[str, Any]) -> str:
    """Return a row per number of conversations, and the memory of one more in this process."""
    peaks = result["peaks"]
    rows = [
        [peak["rows"], peak["kept"], *(f"{peak[who] / MIB:.0f} MiB" for who in ("driver", "workers", "together"))]
        for peak in peaks
    ]
    table = markdown(["conversations", "kept", "driver, peak", "workers, peak", "both at once, peak"], rows)
    if len(peaks) > 1:
        slope = (peaks[-1]["driver"] - peaks[0]["driver"]) / (peaks[-1]["rows"] - peaks[0]["rows"])
        table += f"\nEach further conversation takes {slope:.0f} bytes in the driver.\n"
    return table + f"\nObject store of {result['store'] / MIB:.0f} MiB.\n"


def conversations(count: int, seed: int, length: int = 8) -> Iterator[Conversation]:
    """Yield conversations of `length` turns of words made of syllables."""
    rng = random.Random(seed)
    for number in range(count):
        turns = tuple(Turn("user" if place % 2 == 0 else "assistant", _sentence(rng)) for place in range(length))
        yield Conversation(f"talk-{number:08d}", f"user-{number % 5000}", turns, consent=True)


def _sentence(rng: random.Random) -> str:
    words = ("".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))) for _ in range(rng.randint(5, 20)))
    return f"I think that the {' '.join(words)} is what you want."


def _worker_memory(process: psutil.Process) -> int:
    try:
        is_worker = process.name().startswith("ray::")
        return int(process.memory_full_info().uss) if is_worker else 0
    except psutil.Error:  # the process has ended
        return 0


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure the memory that a curation takes.")
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 80_000])
    parser.add_argument("--turns", type=int, default=8, help="of each conversation")
    parser.add_argument("--store-mb", type=int, default=300, help="size of Ray's object store")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
