"""The infinity-emb peer of benchmarks/embedding.py; runs in a separate environment without mongars.

Reads {"base", "texts", "repeats"} as JSON from stdin; the last line of stdout is the list of rates.
"""

import asyncio
import json
import sys
import time

from infinity_emb import AsyncEmbeddingEngine, EngineArgs


async def measure(task: dict) -> list[float]:
    """Return the rates, in texts per second."""
    arguments = EngineArgs(
        model_name_or_path=task["base"],
        engine="torch",
        device="cpu",
        dtype="float32",
        bettertransformer=False,
        compile=False,
        model_warmup=False,
        lengths_via_tokenize=True,
    )
    rates = []
    engine = AsyncEmbeddingEngine.from_args(arguments)
    async with engine:
        for repeat in range(task["repeats"] + 1):
            started = time.perf_counter()
            vectors, _ = await engine.embed(task["texts"])
            seconds = time.perf_counter() - started
            assert len(vectors) == len(task["texts"])
            if repeat:
                rates.append(len(vectors) / seconds)
    return rates


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(json.load(sys.stdin)))), flush=True)
