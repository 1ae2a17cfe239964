"""Two hundred versions in sequence do not grow the memory of a replica."""

import gc
import itertools

import psutil

from mongars.serving.engine.engine import Engine

WARM_UP = 40
ADOPTIONS = 200
ALLOWED = 24 * 2**20
"""Bytes. Measured: 1 MiB grown, and 81 MiB when every version was held on purpose."""


async def test_two_hundred_adoptions_do_not_grow_the_memory_of_a_replica(base, make_adapter, record_property):
    engine = Engine(base)
    adapters = [(make_adapter(seed), make_adapter(seed + 4, "chat")) for seed in range(61, 65)]
    process, sizes = psutil.Process(), list[int]()
    for generation, (encoder, chat) in enumerate(itertools.islice(itertools.cycle(adapters), ADOPTIONS), start=1):
        engine.adopt(generation, {"encoder": (encoder.ref, encoder.folder), "chat": (chat.ref, chat.folder)})
        await engine.embed(["hello there"])
        if generation in (WARM_UP, ADOPTIONS):
            gc.collect()
            sizes.append(process.memory_info().rss)
    assert engine.generation == ADOPTIONS
    assert len(engine.status()["slots"]) == 2
    engine.close()
    grown = sizes[1] - sizes[0]
    record_property("bytes grown", grown)
    before, after = (size / 2**20 for size in sizes)
    print(f"memory after {WARM_UP} adoptions {before:.0f} MiB, after {ADOPTIONS} {after:.0f} MiB")
    assert grown < ALLOWED
