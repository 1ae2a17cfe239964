"""Work on a thread that ends with it.

Owns such a thread, and with it the end of the threads that OpenMP keeps for whoever computed there. Must not know
what is computed. GNU's OpenMP gives every thread that multiplies helpers of its own and keeps them as long as that
thread lives. Where a process then has more of them than cores, it puts all helpers to sleep after every
operation: on two cores the engine gave 1,066 to 1,233 tokens a second in two threads after its base had been
loaded on a thread that stayed, and 1,444 to 2,004 after one that went (docs/results/2026-11-27-serving.md).
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
    """Begin work on a thread of its own, in the caller's context; the thread ends when the work is done.

    As `asyncio.to_thread`, whose threads stay; the work begins at once and goes on when nobody waits for it.
    """
    thread = ThreadPoolExecutor(1, "mongars-passing")
    try:
        return asyncio.wrap_future(thread.submit(copy_context().run, partial(work, *args, **options)))
    finally:
        thread.shutdown(wait=False)
