"""Work on a thread that ends with the work.

GNU's OpenMP keeps a team of worker threads for every thread that ever computed, until that thread ends. When a
process has more of them than cores, it puts all of them to sleep after every operation. Loads on a thread that
stays would halve the throughput of generation in two threads (docs/results/serving.md).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def run_in_ephemeral_thread(work: Callable[P, T], *args: P.args, **options: P.kwargs) -> "asyncio.Future[T]":
    """Start work on its own thread, in the caller's context, and return its future.

    Unlike `asyncio.to_thread`, the thread ends with the work. Cancelling the future does not stop the work.
    """
    thread = ThreadPoolExecutor(1, "mongars-ephemeral")
    try:
        return asyncio.wrap_future(thread.submit(copy_context().run, partial(work, *args, **options)))
    finally:
        thread.shutdown(wait=False)
