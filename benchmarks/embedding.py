"""Embedding throughput: our scheduler against the usual batching, all in one run.

    python benchmarks/embedding.py --base models/base/mongars-nano [--dtype bfloat16] [--infinity PYTHON]

Texts are random tokens of mixed lengths, because only the lengths matter. A rate is texts per second from the
first text to the last vector. Rounds are interleaved, `--repeats` times; the table gives the ratio of ours to
each, with its minimum and maximum. With `--dtype bfloat16` ours runs in bfloat16, and each peer in float32 and in
bfloat16. infinity-emb runs in a separate environment, whose Python is given by `--infinity` (see
benchmarks/README.md). "the products alone" are our model's matrix products over the same tokens and nothing else:
a bound for any batching.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import (
    add_dtype,
    as_asked,
    as_transformers_loads,
    dtype_name,
    markdown,
    on_own_thread,
    peer_rates,
    rate_and_ratio,
    rate_flags,
    run,
    take_turns,
)
from mongars.cli.output import Stages
from mongars.lm.tokenize import tokenize

TOKENS = (5, 250)
TEXTS_OF_A_REQUEST = 8
ST_BATCH = 32
"""The default batch of sentence-transformers, which sorts by length and pads each batch to its longest."""
INFINITY_SCRIPT = Path(__file__).with_name("peers") / "infinity_embedding.py"

PRODUCTS = "the products alone"

Way = Callable[[Any, list[str]], np.ndarray]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit code."""
    flags = _flags().parse_args(arguments)
    return run(lambda progress: measure(flags, progress), None if flags.json else show)


def measure(flags: argparse.Namespace, progress: Stages) -> dict[str, Any]:
    """Return each contender's texts per second, and the largest distance of its vectors from ours."""
    progress.stage("load")
    import torch

    from mongars.lm.base_files import base_name

    torch.set_num_threads(flags.threads)
    base = as_asked(flags)
    texts = make_texts(base.tokenizer, flags.texts, seed=flags.seed)
    ways = ways_of(base, texts)
    on_own = {name: partial(on_own_thread, way) for name, way in ways.items()}
    vectors = {name: way() for name, way in on_own.items()}
    tokens = sum(map(len, tokenize(base.tokenizer, texts)))
    on_own[PRODUCTS] = partial(on_own_thread, partial(products_alone, base, tokens))
    rates = take_turns(on_own, len(texts), flags.repeats, progress, "texts")
    if flags.infinity:
        progress.stage("infinity-emb")
        with tempfile.TemporaryDirectory(prefix="mongars-embedding-") as place:
            copy = older_copy(base.path, Path(place) / "base")
            task = {"base": str(copy), "texts": texts, "repeats": flags.repeats}
            rates["infinity-emb"] = peer_rates(flags.infinity, INFINITY_SCRIPT, task, "infinity-emb")
    return {
        "base": {"name": base_name(flags.base), "digest": base.digest},
        "texts": len(texts),
        "tokens": tokens,
        "threads": flags.threads,
        "dtype": dtype_name(base),
        "seed": flags.seed,
        "rates": rates,
        "farthest": {name: float(np.abs(each - vectors["ours"]).max()) for name, each in vectors.items()},
    }


def ways_of(base: Any, texts: list[str]) -> dict[str, Callable[[], np.ndarray]]:
    """Return our contender in the base's dtype, and its peers in float32 and, where it differs, in that dtype."""
    from mongars.neurons.bidirectional import bidirectional_encoder
    from mongars.neurons.mean_pooling import PaddedMeanPooler
    from mongars.neurons.neurons import Neurons

    ways = {"ours": partial(ours, Neurons(bidirectional_encoder(base), base.tokenizer), texts)}
    for kept, loaded in as_transformers_loads(base).items():
        peer = Neurons(bidirectional_encoder(loaded), base.tokenizer, pooler_of=PaddedMeanPooler)
        ways |= {f"{name}{kept}": partial(way, peer, texts) for name, way in WAYS.items()}
    return ways


def show(result: dict[str, Any]) -> str:
    """Return a table with a row per contender."""
    rows = [
        [name, *rate_and_ratio(result["rates"], name), "" if far is None or name == "ours" else f"{far:.1e}"]
        for name in result["rates"]
        for far in [result["farthest"].get(name)]
    ]
    base = result["base"]
    return (
        markdown(["contender", "texts/s", "ratio of ours", "largest distance from our vectors"], rows)
        + f"\nBase {base['name']}, digest {base['digest'][:12]}; {result['threads']} threads; "
        f"ours in {result['dtype']}; {result['texts']} texts of {TOKENS[0]} to {TOKENS[1]} tokens, "
        f"{result['tokens']} in all.\n"
    )


def make_texts(tokenizer: Any, count: int, *, seed: int) -> list[str]:
    """Return texts of random ordinary tokens; tokenised again, a text has about as many tokens as were drawn."""
    rng = np.random.Generator(np.random.PCG64(seed))
    sizes = rng.integers(*TOKENS, size=count, endpoint=True)
    low = len(tokenizer) // 4  # the first entries of the vocabulary are single bytes
    return [tokenizer.decode(rng.integers(low, len(tokenizer), size=size).tolist()) for size in sizes]


def older_copy(base: Path, target: Path) -> Path:
    """Copy a base for transformers 4, which infinity-emb requires: some settings had other names and forms."""
    shutil.copytree(base, target)
    config, tokenizer = target / "config.json", target / "tokenizer_config.json"
    options = json.loads(config.read_text(encoding="utf-8"))
    rope = options.get("rope_parameters") or {}
    config.write_text(json.dumps(options | {"rope_theta": rope.get("rope_theta", 10000.0)}), encoding="utf-8")
    options = json.loads(tokenizer.read_text(encoding="utf-8"))
    special = options.pop("extra_special_tokens", [])
    options |= {"tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": special}
    tokenizer.write_text(json.dumps(options), encoding="utf-8")
    return target


def ours(neurons: Any, texts: list[str]) -> np.ndarray:
    """Requests of a few texts, all at once, through the scheduler that serves."""
    from mongars.serving.engine.embedding import EmbeddingScheduler

    scheduler = EmbeddingScheduler()
    requests = [texts[start : start + TEXTS_OF_A_REQUEST] for start in range(0, len(texts), TEXTS_OF_A_REQUEST)]
    futures = [scheduler.submit(neurons, neurons.tokenize(request), None) for request in requests]
    vectors = np.concatenate([future.result()[0] for future in futures])
    scheduler.close()
    return vectors


def sentence_transformers_way(neurons: Any, texts: list[str]) -> np.ndarray:
    """Sorted by length, in batches of a fixed count."""
    reading = neurons.tokenize(texts)
    sums = neurons.zeros(len(texts))
    ordered = sorted(reading.windows, key=lambda window: -len(window[1]))
    for start in range(0, len(ordered), ST_BATCH):
        _add(neurons, sums, ordered[start : start + ST_BATCH])
    vectors: np.ndarray = neurons.vectors(sums, None)
    return vectors


def in_order(neurons: Any, texts: list[str]) -> np.ndarray:
    """In the order given, in batches of a fixed count."""
    reading = neurons.tokenize(texts)
    sums = neurons.zeros(len(texts))
    for start in range(0, len(reading.windows), ST_BATCH):
        _add(neurons, sums, reading.windows[start : start + ST_BATCH])
    vectors: np.ndarray = neurons.vectors(sums, None)
    return vectors


WAYS: dict[str, Way] = {
    "sorted, 32 a batch (sentence-transformers)": sentence_transformers_way,
    "in order, 32 a batch": in_order,
}


def products_alone(base: Any, tokens: int) -> None:
    """Every linear layer of the encoder over the states of all tokens, in batches as large as ours."""
    import torch
    from torch import nn

    from mongars.neurons.bidirectional import bidirectional_encoder
    from mongars.neurons.neurons import TOKEN_BUDGET

    layers = [module for module in bidirectional_encoder(base).modules() if isinstance(module, nn.Linear)]
    sizes = {layer.in_features for layer in layers}
    states = {size: torch.ones(TOKEN_BUDGET, size, dtype=base.model.dtype) for size in sizes}
    with torch.inference_mode():
        for start in range(0, tokens, TOKEN_BUDGET):
            for layer in layers:
                layer(states[layer.in_features][: tokens - start])


def _add(neurons: Any, sums: Any, windows: list[tuple[int, list[int]]]) -> None:
    for (index, ids), mean in zip(windows, neurons.means([ids for _, ids in windows]), strict=True):
        sums[index] += mean * len(ids)


def _flags() -> argparse.ArgumentParser:
    parser = rate_flags("Measure embedding throughput against the usual batching.")
    parser.add_argument("--texts", type=int, default=1024)
    add_dtype(parser)
    parser.add_argument("--infinity", help="the Python of an environment with infinity-emb")
    return parser


if __name__ == "__main__":
    sys.exit(main())
