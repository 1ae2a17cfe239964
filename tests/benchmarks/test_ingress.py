"""The parts that need no server; the whole is a run of minutes."""

import asyncio
import time

from benchmarks.ingress import bare, in_streams, processor_seconds, show
from mongars.serving.engine.engine import Engine


async def test_the_bare_engine_answers_every_stream_the_same_way_each_time(base):
    engine = Engine(base)
    try:
        first, second = await bare(engine, 2, 3), await bare(engine, 2, 3)
    finally:
        engine.close()
    assert first == second
    assert len(first) == 3
    assert min(first) > 0


def test_the_table_has_the_servers_share_of_the_engines_rate():
    text = show(
        {
            "base": {"name": "tiny", "digest": "a" * 64},
            "streams": 16,
            "chats": 4,
            "tokens": 900,
            "threads": 2,
            "cores": 2,
            "rates": {"engine": [100.0, 110.0, 90.0], "server": [90.0, 88.0, 81.0]},
            "processor_seconds": [18.0, 18.0, 20.0],
        }
    )
    assert "| engine | 100.0 | 0.90 [0.80, 0.90] |" in text
    assert "| server | 88.0 |  |" in text
    assert (
        "With no core idle: 1.00 [0.91, 1.00]. A round of the server used 18.0 processor seconds of 2 cores."
        in text
    )


def test_processor_seconds_grow_while_a_core_is_busy():
    before, started = processor_seconds(), time.process_time()
    while time.process_time() < started + 0.1:  # longer than the clock ticks of /proc/stat, 10 ms each
        pass
    assert processor_seconds() - before >= 0.05


async def test_a_stream_starts_its_next_chat_when_the_last_one_ends():
    begun: list[int] = []
    gates = [asyncio.Event() for _ in range(5)]

    async def chat(number: int) -> int:
        begun.append(number)
        await gates[number].wait()
        return number * 10

    running = asyncio.create_task(in_streams(2, [chat(number) for number in range(5)]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert begun == [0, 1]
    for gate in gates:
        gate.set()
    assert await running == [0, 10, 20, 30, 40]
