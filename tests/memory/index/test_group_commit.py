import asyncio

import pytest

from mongars.memory.index.group_commit import GroupCommit

LIMIT = 10


class Work:
    """Notes each group, and holds it until it is let go."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.fails: BaseException | None = None

    async def __call__(self, items) -> None:
        self.groups.append(list(items))
        self.begun.set()
        await self.go.wait()
        if self.fails:
            raise self.fails


async def begun(grouped: GroupCommit, work: Work, *others: str) -> list[asyncio.Future]:
    """Start one caller, and when it is at work the others."""
    tasks = [grouped.add(["first"])]
    await work.begun.wait()
    tasks += [grouped.add([other]) for other in others]
    await asyncio.sleep(0)
    return tasks


async def test_the_first_goes_alone_and_all_who_came_meanwhile_go_together():
    work = Work()
    tasks = await begun(GroupCommit(work, limit=LIMIT), work, "a", "b", "c")
    assert work.groups == [["first"]]
    work.go.set()
    await asyncio.gather(*tasks)
    assert work.groups == [["first"], ["a", "b", "c"]]


async def test_nobody_is_done_before_the_work_is():
    work = Work()
    tasks = await begun(GroupCommit(work, limit=LIMIT), work, "a")
    assert not any(task.done() for task in tasks)
    work.go.set()
    await asyncio.gather(*tasks)


async def test_a_group_is_bounded_and_one_caller_is_never_split():
    work = Work()
    grouped = GroupCommit(work, limit=LIMIT)
    tasks = [grouped.add(["x"] * size) for size in (1, LIMIT - 1, 1, 3 * LIMIT, 1)]
    work.go.set()
    await asyncio.gather(*tasks)
    assert [len(group) for group in work.groups] == [LIMIT, 1, 3 * LIMIT, 1]


async def test_a_failure_reaches_all_of_its_group_and_nobody_after_it():
    work = Work()
    grouped = GroupCommit(work, limit=LIMIT)
    work.fails = OSError("the disk is full")
    tasks = await begun(grouped, work)
    work.go.set()
    with pytest.raises(OSError, match="full"):
        await tasks[0]
    work.fails = None
    await grouped.add(["again"])
    assert work.groups == [["first"], ["again"]]


async def test_a_caller_who_leaves_takes_nothing_from_the_others():
    work = Work()
    tasks = await begun(GroupCommit(work, limit=LIMIT), work, "leaving", "staying")
    tasks[1].cancel()
    work.go.set()
    await tasks[2]
    assert work.groups == [["first"], ["leaving", "staying"]]
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]


async def test_when_the_work_is_cancelled_nobody_waits_for_ever():
    work = Work()
    grouped = GroupCommit(work, limit=LIMIT)
    tasks = await begun(grouped, work, "waiting")
    grouped._running.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


async def test_those_who_came_wait_for_company_until_somebody_hurries():
    work = Work()
    work.go.set()
    grouped = GroupCommit(work, limit=LIMIT, patience_s=600)
    grouped.flush()  # nothing waits: it is not kept for who comes next
    tasks = [grouped.add([item]) for item in ("a", "b")]
    for _ in range(10):  # turns of the loop in which the work would begin
        await asyncio.sleep(0)
    assert work.groups == []
    grouped.flush()
    await asyncio.gather(*tasks)
    assert work.groups == [["a", "b"]]


async def test_a_full_group_waits_for_nobody():
    work = Work()
    work.go.set()
    grouped = GroupCommit(work, limit=LIMIT, patience_s=600)
    await asyncio.gather(*(grouped.add([item]) for item in range(LIMIT)))
    assert [len(group) for group in work.groups] == [LIMIT]


async def test_who_hurries_does_not_wait_for_the_group_before_him_to_find_company():
    work = Work()
    work.go.set()
    grouped = GroupCommit(work, limit=LIMIT, patience_s=600)
    tasks = [grouped.add(["x"] * (LIMIT - 1)), grouped.add(["y"] * 2)]
    await asyncio.wait_for(asyncio.gather(*tasks), timeout=60)
    assert [len(group) for group in work.groups] == [LIMIT - 1, 2]


async def test_patience_ends_by_itself():
    work = Work()
    work.go.set()
    await GroupCommit(work, limit=LIMIT, patience_s=0.01).add(["a"])
    assert work.groups == [["a"]]


async def test_who_waits_for_company_is_let_go_when_the_work_is_cancelled():
    grouped = GroupCommit(Work(), limit=LIMIT, patience_s=600)
    waiting = grouped.add(["a"])
    await asyncio.sleep(0)
    grouped._running.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
