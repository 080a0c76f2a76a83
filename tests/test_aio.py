"""Background tasks: joined, cancelled after the timeout, their exceptions reported. Turns. Work in a thread, in bounds."""

from __future__ import annotations

import asyncio
import threading

import pytest
import uvloop

from gateway import aio
from gateway.aio import LEAST_STEP, LONGEST_SLEEP, Tasks, Turns, WorkThread
from gateway.steps import step
from tests.harness import bounds
from tests.harness.clock import until


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


async def test_a_work_thread_does_one_job_at_a_time_in_the_order_of_arrival():
    thread, may_end, done = WorkThread("test"), threading.Event(), []

    def job(number):
        may_end.wait(bounds.STEP)
        done.append((number, threading.current_thread().name))
        return number

    jobs = [asyncio.create_task(thread.run(job, number)) for number in range(100)]
    may_end.set()
    assert await asyncio.gather(*jobs) == [number for number, _ in done] == [*range(100)]
    assert {name for _, name in done} == {"test_0"}
    await thread.close()


async def test_a_work_thread_with_a_bound_refuses_further_jobs_until_one_has_ended():
    thread, may_end = WorkThread("test", 2), threading.Event()
    jobs = [thread.submit(may_end.wait, bounds.STEP), thread.submit(int)]
    with pytest.raises(asyncio.QueueFull):
        thread.submit(int)
    with pytest.raises(asyncio.QueueFull):
        await thread.run(int)
    may_end.set()
    await asyncio.gather(*map(asyncio.wrap_future, jobs))
    assert await thread.run(int) == 0
    await thread.close()


async def test_a_job_counts_until_it_ends_also_when_its_caller_has_left():
    thread, has_begun, may_end = WorkThread("test", 1), threading.Event(), threading.Event()

    def job():
        has_begun.set()
        may_end.wait(bounds.STEP)

    caller = asyncio.create_task(thread.run(job))
    while not has_begun.is_set():
        await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    with pytest.raises(asyncio.QueueFull):
        thread.submit(int)
    may_end.set()
    await thread.close()


async def test_a_work_thread_that_is_closed_ends_its_job_and_drops_those_that_wait():
    thread, may_end, done = WorkThread("test"), threading.Event(), []
    running, waiting = (
        thread.submit(lambda: done.append(may_end.wait(bounds.STEP))),
        thread.submit(done.append, 2),
    )
    closing = asyncio.create_task(thread.close())
    while not waiting.cancelled():
        await asyncio.sleep(0)
    assert not closing.done()
    may_end.set()
    await closing
    assert running.done()
    assert done == [True]


async def test_tasks_take_turns_in_the_order_in_which_they_came():
    turns, taken = Turns(3), []

    async def work(number):
        for turn in range(3):
            await turns.step()
            taken.append((turn, number))

    working = [asyncio.ensure_future(work(number)) for number in range(4)]
    in_each = []
    while not all(task.done() for task in working):
        before = len(taken)
        await asyncio.sleep(0)
        in_each.append(len(taken) - before)
    assert max(in_each) == 3
    assert len(taken) == 12
    of_last = [step for step, number in taken[:9] if number == 3]
    assert of_last  # none waits until the others have ended


async def test_a_task_that_is_cancelled_gives_its_turn_to_the_next():
    turns = Turns(1)
    _, leaving, staying = [asyncio.ensure_future(turns.step()) for _ in range(3)]
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait_for(staying, bounds.STEP)
    assert leaving.cancelled()


@pytest.mark.parametrize(
    ("waited", "worked", "slept"),
    [
        (0.0, 0.003, []),
        (0.0002, 0.003, []),
        (0.001, 0.003, [0.003]),
        (1.0, 0.003, [0.003]),
        (0.1, 0.1, [LONGEST_SLEEP]),
        (1.0, LEAST_STEP / 2, []),
    ],
    ids=["alone", "hardly", "beside others", "after a pause", "a long step", "a short step"],
)
async def test_a_work_thread_gives_way_for_as_long_as_it_worked_if_others_want_the_interpreter(
    monkeypatch, waited, worked, slept
):
    clock, sleeps = [0.0, 0.0], []
    monkeypatch.setattr(aio, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(aio, "thread_time", lambda: clock[1])
    monkeypatch.setattr(aio, "sleep", sleeps.append)
    thread = WorkThread("test")

    def job():
        clock[0] += waited + worked
        clock[1] += worked
        step()

    clock[0] = 100.0  # nothing was to be done
    await thread.run(job)
    await thread.close()
    assert sleeps == pytest.approx(slept)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_what_the_other_side_has_not_taken_is_counted_until_it_does(loop):
    async def talk():
        heard = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(lambda *streams: heard.set_result(streams), "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        reader, other = await heard
        assert aio.untaken(writer.transport) == 0
        writer.write(bytes(16_000_000))
        full = aio.untaken(writer.transport)
        assert writer.transport.get_write_buffer_size() < full <= 16_000_000
        await reader.readexactly(16_000_000)
        await until(lambda: not aio.untaken(writer.transport))
        writer.transport.abort()
        await until(lambda: other.transport.is_closing() or reader.at_eof())
        assert aio.untaken(writer.transport) == 0
        other.close()
        server.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(talk())
