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

async def pass_by():
    await run_in_ephemeral_thread(add_in_two_threads)

asyncio.run(pass_by())
deadline = time.monotonic() + 20
while threads() > before and time.monotonic() < deadline:
    time.sleep(0.01)  # a thread that has done its work still has to end
passed = threads() - before
add_in_two_threads()
print(passed, threads() - before)
"""
"""How many threads are left by a sum on a ephemeral thread, and by the same one on a thread that stays."""


def test_openmps_threads_end_with_the_work_that_they_were_made_for():
    done = subprocess.run([sys.executable, "-c", COUNTING], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1"]


async def test_work_is_done_in_the_callers_context_on_a_thread_that_ends():
    said = contextvars.ContextVar("said")
    said.set("hello")
    thread, heard = await run_in_ephemeral_thread(lambda: (threading.current_thread(), said.get()))
    thread.join(timeout=20)
    assert heard == "hello"
    assert not thread.is_alive()


async def test_an_error_comes_to_who_awaits_the_work():
    def refuse(what, *, why):
        raise ValueError(f"{what}: {why}")

    with pytest.raises(ValueError, match="load: damaged"):
        await run_in_ephemeral_thread(refuse, "load", why="damaged")
