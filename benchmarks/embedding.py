"""How fast texts become vectors: our scheduler against the usual ways, all of them in one run.

    python benchmarks/embedding.py --base models/base/mongars-nano [--texts 1024] [--infinity PYTHON]

Texts are random tokens of mixed lengths, because only the lengths count. A way's figure is texts a second from the
first text to the last vector. Ways take turns, `--repeats` times; the table gives the ratio of ours to each, with
the least and the greatest of the repeats. infinity-emb runs in an environment of its own, whose Python is named by
`--infinity` (benchmarks/README.md says how to make it).
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import markdown, run
from mongars.cli.output import Stages
from mongars.errors import UnavailableError

TOKENS = (5, 250)
TEXTS_OF_A_REQUEST = 8
ST_BATCH = 32
"""The default batch of sentence-transformers, which sorts by length and pads each batch to its longest."""
INFINITY_SCRIPT = Path(__file__).with_name("peers") / "infinity_embedding.py"

Way = Callable[[Any, list[str]], np.ndarray]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit code."""
    flags = _flags().parse_args(arguments)
    return run(lambda progress: measure(flags, progress), None if flags.json else show)


def measure(flags: argparse.Namespace, progress: Stages) -> dict[str, Any]:
    """Return the rates of every way, in texts a second, and how far its vectors are from ours."""
    progress.stage("load")
    import torch

    from mongars.neurons.base import base_name, load_base
    from mongars.neurons.bidirectional import bidirectional_encoder
    from mongars.neurons.neurons import Neurons

    torch.set_num_threads(flags.threads)
    base = load_base(flags.base)
    neurons = Neurons(bidirectional_encoder(base), base.tokenizer)
    texts = make_texts(base.tokenizer, flags.texts, seed=flags.seed)
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    vectors: dict[str, np.ndarray] = {}
    for repeat in range(flags.repeats + 1):  # the first one warms up
        progress.stage(f"repeat {repeat} of {flags.repeats}")
        for name, way in WAYS.items():
            started = time.perf_counter()
            vectors[name] = way(neurons, texts)
            if repeat:
                rates[name].append(len(texts) / (time.perf_counter() - started))
    if flags.infinity:
        progress.stage("infinity-emb")
        rates["infinity-emb"] = infinity_rates(flags, texts)
    return {
        "base": {"name": base_name(flags.base), "digest": base.digest},
        "texts": len(texts),
        "tokens": neurons.read(texts).tokens,
        "threads": flags.threads,
        "seed": flags.seed,
        "rates": rates,
        "farthest": {name: float(np.abs(each - vectors["ours"]).max()) for name, each in vectors.items()},
    }


def show(result: dict[str, Any]) -> str:
    """Return a table with a row for each way."""
    rows = []
    for name, rates in result["rates"].items():
        ratios = sorted(our / their for our, their in zip(result["rates"]["ours"], rates, strict=False))
        ratio = f"{statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]"
        farthest = result["farthest"].get(name)
        rows.append(
            [
                name,
                f"{statistics.median(rates):.1f}",
                "" if name == "ours" else ratio,
                "" if farthest is None or name == "ours" else f"{farthest:.1e}",
            ]
        )
    base = result["base"]
    return (
        markdown(["way", "texts/s", "ours is so many times that", "farthest from our vectors"], rows)
        + f"\nBase {base['name']}, digest {base['digest'][:12]}; {result['threads']} threads; {result['texts']} "
        f"texts of {TOKENS[0]} to {TOKENS[1]} tokens, {result['tokens']} in all.\n"
    )


def make_texts(tokenizer: Any, count: int, *, seed: int) -> list[str]:
    """Return texts of random ordinary tokens; read again, a text has about as many tokens as were drawn."""
    rng = np.random.Generator(np.random.PCG64(seed))
    sizes = rng.integers(*TOKENS, size=count, endpoint=True)
    low = len(tokenizer) // 4  # the first entries are single bytes
    return [tokenizer.decode(rng.integers(low, len(tokenizer), size=size).tolist()) for size in sizes]


def ours(neurons: Any, texts: list[str]) -> np.ndarray:
    """Requests of a few texts, all at once, by the scheduler that serves."""
    from mongars.serving.embedding import EmbeddingScheduler

    scheduler = EmbeddingScheduler()
    requests = [texts[start : start + TEXTS_OF_A_REQUEST] for start in range(0, len(texts), TEXTS_OF_A_REQUEST)]
    futures = [scheduler.submit(neurons, neurons.read(request), None) for request in requests]
    vectors = np.concatenate([future.result()[0] for future in futures])
    scheduler.close()
    return vectors


def sentence_transformers_way(neurons: Any, texts: list[str]) -> np.ndarray:
    """Sorted by length, in batches of a fixed count."""
    reading = neurons.read(texts)
    sums = neurons.zeros(len(texts))
    ordered = sorted(reading.windows, key=lambda window: -len(window[1]))
    for start in range(0, len(ordered), ST_BATCH):
        _add(neurons, sums, ordered[start : start + ST_BATCH])
    vectors: np.ndarray = neurons.vectors(sums, None)
    return vectors


def in_order(neurons: Any, texts: list[str]) -> np.ndarray:
    """As they come, in batches of a fixed count."""
    reading = neurons.read(texts)
    sums = neurons.zeros(len(texts))
    for start in range(0, len(reading.windows), ST_BATCH):
        _add(neurons, sums, reading.windows[start : start + ST_BATCH])
    vectors: np.ndarray = neurons.vectors(sums, None)
    return vectors


WAYS: dict[str, Way] = {
    "ours": ours,
    "sorted, 32 a batch (sentence-transformers)": sentence_transformers_way,
    "in order, 32 a batch": in_order,
}


def infinity_rates(flags: argparse.Namespace, texts: list[str]) -> list[float]:
    """Return the rates of infinity-emb, which reads the same texts in a process of its own."""
    task = {"base": str(Path(flags.base).resolve()), "texts": texts, "repeats": flags.repeats}
    done = subprocess.run(
        [flags.infinity, str(INFINITY_SCRIPT)], input=json.dumps(task), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UnavailableError(f"infinity-emb failed: {done.stderr[-500:]}", remedy="See benchmarks/README.md.")
    rates: list[float] = json.loads(done.stdout.splitlines()[-1])
    return rates


def _add(neurons: Any, sums: Any, windows: list[tuple[int, list[int]]]) -> None:
    for (index, ids), mean in zip(windows, neurons.means([ids for _, ids in windows]), strict=True):
        sums[index] += mean * len(ids)


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="How fast texts become vectors, against the usual ways.")
    parser.add_argument("--base", required=True, help="folder of the base model")
    parser.add_argument("--texts", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--infinity", help="the Python of an environment with infinity-emb")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
