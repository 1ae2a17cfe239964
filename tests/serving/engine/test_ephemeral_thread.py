import contextvars
import subprocess
import sys
import threading

import pytest

from mongars.serving.engine.ephemeral_thread import run_in_ephemeral_thread

COUNTING = """
import asyncio, os, time, torch
from mongars.serving.engine.ephemeral_thread import run_in_ephemeral_thread

def threads():
    return len(os.listdir("/proc/self/task"))

def add_in_two_threads():
    torch.ones(1000, 1000).add(1)

torch.set_num_threads(2)
before = threads()

async def run():
    await run_in_ephemeral_thread(add_in_two_threads)

asyncio.run(run())
deadline = time.monotonic() + 20
while threads() > before and time.monotonic() < deadline:
    time.sleep(0.01)  # the thread ends some time after its work
ephemeral = threads() - before
add_in_two_threads()
print(ephemeral, threads() - before)
"""
"""Prints how many threads a sum leaves behind on an ephemeral thread, and on one that stays."""


def test_the_threads_of_openmp_end_with_the_work():
    done = subprocess.run([sys.executable, "-c", COUNTING], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1"]


async def test_work_runs_in_the_callers_context_on_a_thread_that_ends():
    variable = contextvars.ContextVar("variable")
    variable.set("hello")
    thread, value = await run_in_ephemeral_thread(lambda: (threading.current_thread(), variable.get()))
    thread.join(timeout=20)
    assert value == "hello"
    assert not thread.is_alive()


async def test_an_error_is_raised_where_the_work_is_awaited():
    def refuse(what, *, why):
        raise ValueError(f"{what}: {why}")

    with pytest.raises(ValueError, match="load: damaged"):
        await run_in_ephemeral_thread(refuse, "load", why="damaged")
