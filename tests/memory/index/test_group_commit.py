import asyncio

import pytest

from mongars.memory.index.group_commit import GroupCommit

LIMIT = 10


class Work:
    """Records each batch, and waits for `go`."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.started = asyncio.Event()
        self.go = asyncio.Event()
        self.error: BaseException | None = None

    async def __call__(self, items) -> None:
        self.batches.append(list(items))
        self.started.set()
        await self.go.wait()
        if self.error:
            raise self.error


async def start(commits: GroupCommit, work: Work, *others: str) -> list[asyncio.Future]:
    """Add an item, and others once the work on it has started."""
    tasks = [commits.add(["first"])]
    await work.started.wait()
    tasks += [commits.add([other]) for other in others]
    await asyncio.sleep(0)
    return tasks


async def test_items_added_during_a_call_share_the_next_one():
    work = Work()
    tasks = await start(GroupCommit(work, limit=LIMIT), work, "a", "b", "c")
    assert work.batches == [["first"]]
    work.go.set()
    await asyncio.gather(*tasks)
    assert work.batches == [["first"], ["a", "b", "c"]]


async def test_no_future_is_done_before_its_work():
    work = Work()
    tasks = await start(GroupCommit(work, limit=LIMIT), work, "a")
    assert not any(task.done() for task in tasks)
    work.go.set()
    await asyncio.gather(*tasks)


async def test_a_batch_is_limited_and_items_of_one_call_stay_together():
    work = Work()
    commits = GroupCommit(work, limit=LIMIT)
    tasks = [commits.add(["x"] * size) for size in (1, LIMIT - 1, 1, 3 * LIMIT, 1)]
    work.go.set()
    await asyncio.gather(*tasks)
    assert [len(batch) for batch in work.batches] == [LIMIT, 1, 3 * LIMIT, 1]


async def test_a_failure_reaches_its_own_batch_only():
    work = Work()
    commits = GroupCommit(work, limit=LIMIT)
    work.error = OSError("the disk is full")
    tasks = await start(commits, work)
    work.go.set()
    with pytest.raises(OSError, match="full"):
        await tasks[0]
    work.error = None
    await commits.add(["next"])
    assert work.batches == [["first"], ["next"]]


async def test_a_cancelled_caller_does_not_affect_the_others():
    work = Work()
    tasks = await start(GroupCommit(work, limit=LIMIT), work, "leaving", "staying")
    tasks[1].cancel()
    work.go.set()
    await tasks[2]
    assert work.batches == [["first"], ["leaving", "staying"]]
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]


async def test_cancelled_work_cancels_all_waiting_callers():
    work = Work()
    commits = GroupCommit(work, limit=LIMIT)
    tasks = await start(commits, work, "waiting")
    commits._running.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


async def test_a_batch_waits_for_more_items_until_a_flush():
    work = Work()
    work.go.set()
    commits = GroupCommit(work, limit=LIMIT, max_wait_s=600)
    commits.flush()  # nothing waits, so this has no effect on later items
    tasks = [commits.add([item]) for item in ("a", "b")]
    for _ in range(10):  # iterations of the loop in which the work could start
        await asyncio.sleep(0)
    assert work.batches == []
    commits.flush()
    await asyncio.gather(*tasks)
    assert work.batches == [["a", "b"]]


async def test_a_full_batch_does_not_wait():
    work = Work()
    work.go.set()
    commits = GroupCommit(work, limit=LIMIT, max_wait_s=600)
    await asyncio.gather(*(commits.add([item]) for item in range(LIMIT)))
    assert [len(batch) for batch in work.batches] == [LIMIT]


async def test_items_beyond_the_limit_do_not_make_the_batch_before_them_wait():
    work = Work()
    work.go.set()
    commits = GroupCommit(work, limit=LIMIT, max_wait_s=600)
    tasks = [commits.add(["x"] * (LIMIT - 1)), commits.add(["y"] * 2)]
    await asyncio.wait_for(asyncio.gather(*tasks), timeout=60)
    assert [len(batch) for batch in work.batches] == [LIMIT - 1, 2]


async def test_a_batch_starts_after_max_wait_s():
    work = Work()
    work.go.set()
    await GroupCommit(work, limit=LIMIT, max_wait_s=0.01).add(["a"])
    assert work.batches == [["a"]]


async def test_cancellation_reaches_callers_whose_batch_has_not_started():
    commits = GroupCommit(Work(), limit=LIMIT, max_wait_s=600)
    waiting = commits.add(["a"])
    await asyncio.sleep(0)
    commits._running.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
