"""Background tasks: joined, cancelled after the timeout, their exceptions reported."""

from __future__ import annotations

import asyncio

from gateway.aio import Tasks


async def test_join_waits_for_what_is_under_way():
    tasks, go_on, done = Tasks(lambda error: None), asyncio.Event(), []

    async def work():
        await go_on.wait()
        done.append(1)

    tasks.start(work(), "work")
    tasks.start(work(), "work")
    asyncio.get_running_loop().call_soon(go_on.set)
    await tasks.join(5)
    assert done == [1, 1]


async def test_what_takes_too_long_is_cancelled_and_its_end_awaited():
    errors, ended, begun = [], [], asyncio.Event()

    async def work():
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(1)

    tasks = Tasks(errors.append)
    task = tasks.start(work(), "endless")
    await begun.wait()
    await tasks.join(0)
    assert task.cancelled()
    assert ended == [1]
    assert errors == []


async def test_an_unhandled_exception_is_reported():
    errors = []

    async def work():
        raise ValueError("broken")

    tasks = Tasks(errors.append)
    task = tasks.start(work(), "broken")
    await tasks.join(5)
    assert [str(error) for error in errors] == ["broken"]
    assert task.get_name() == "broken"


async def test_joining_nothing_returns_at_once():
    await Tasks(lambda error: None).join(0)
