"""Conversation locks: one holder, one waiter, all others refused, and no lock is ever left behind."""

from __future__ import annotations

import asyncio

import pytest

from gateway.admission.locks import ConversationLocks
from gateway.errors import ConversationBusy, Draining

KEY, OTHER = ("main", "chat-1"), ("main", "chat-2")
LONG = 60.0


@pytest.fixture
def locks():
    locks = ConversationLocks()
    yield locks
    assert len(locks) == 0


async def waiting(locks, wait=LONG):
    """A task that waits for the lock."""
    task = asyncio.create_task(locks.acquire(KEY, wait))
    await let_run()
    return task


async def let_run():
    """Let every task run until it waits."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_one_holder(locks):
    release = await locks.acquire(KEY, LONG)
    assert locks.is_busy(KEY)
    assert not locks.is_busy(OTHER)
    release()
    assert not locks.is_busy(KEY)


async def test_conversations_do_not_wait_for_each_other(locks):
    for release in (
        await locks.acquire(KEY, 0),
        await locks.acquire(OTHER, 0),
        await locks.acquire(("second", "chat-1"), 0),
    ):
        release()


async def test_without_a_wait_a_busy_conversation_is_refused(locks):
    release = await locks.acquire(KEY, 0)
    with pytest.raises(ConversationBusy, match="still running; wait"):
        await locks.acquire(KEY, 0)
    assert locks.is_busy(KEY)
    release()


async def test_the_waiter_is_next_and_a_third_is_refused(locks):
    first = await locks.acquire(KEY, LONG)
    second = await waiting(locks)
    with pytest.raises(ConversationBusy, match="still running; wait"):
        await locks.acquire(KEY, LONG)
    assert not second.done()
    first()
    assert locks.is_busy(KEY)
    (await second)()


async def test_a_lock_is_handed_from_waiter_to_waiter(locks):
    release = await locks.acquire(KEY, LONG)
    for _ in range(5):
        following = await waiting(locks)
        release()
        release = await following
    release()


async def test_a_second_release_has_no_effect(locks):
    first = await locks.acquire(KEY, LONG)
    second = await waiting(locks)
    first()
    release = await second
    first()
    assert locks.is_busy(KEY)
    with pytest.raises(ConversationBusy):
        await locks.acquire(KEY, 0)
    release()
    release()


async def test_a_waiter_is_refused_after_its_wait(locks):
    release = await locks.acquire(KEY, LONG)
    with pytest.raises(ConversationBusy, match=r"after 0\.001 s"):
        await locks.acquire(KEY, 0.001)
    third = await waiting(locks)
    release()
    (await third)()


async def test_cancelled_while_waiting_frees_the_place(locks):
    first = await locks.acquire(KEY, LONG)
    second = await waiting(locks)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    third = await waiting(locks)
    first()
    (await third)()


async def test_a_waiter_cancelled_during_the_hand_over_passes_the_lock_on(locks):
    first = await locks.acquire(KEY, LONG)
    second = await waiting(locks)
    first()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert not locks.is_busy(KEY)


async def test_a_waiter_cancelled_during_the_hand_over_passes_the_lock_to_a_newer_waiter(locks):
    first = await locks.acquire(KEY, LONG)
    second = await waiting(locks)
    coroutine = locks.acquire(KEY, LONG)
    first()
    future = coroutine.send(None)  # the third waits before the second has woken
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert future.done()
    with pytest.raises(StopIteration) as taken:
        coroutine.send(None)
    taken.value.value()


async def test_cancel_waiter(locks):
    assert not locks.cancel_waiter(KEY)
    release = await locks.acquire(KEY, LONG)
    assert not locks.cancel_waiter(KEY)
    second = await waiting(locks)
    assert locks.cancel_waiter(KEY)
    assert not locks.cancel_waiter(KEY)
    with pytest.raises(ConversationBusy, match="aborted"):
        await second
    third = await waiting(locks)
    release()
    (await third)()


async def test_cancel_waiter_after_the_hand_over_has_no_effect(locks):
    first = await locks.acquire(KEY, LONG)
    second = await waiting(locks)
    first()
    assert not locks.cancel_waiter(KEY)
    (await second)()


async def test_cancel_all_waiters_leaves_the_holders(locks):
    holders = [await locks.acquire(key, LONG) for key in (KEY, OTHER)]
    waiters = [asyncio.create_task(locks.acquire(key, LONG)) for key in (KEY, OTHER)]
    await let_run()
    locks.cancel_all_waiters(Draining("ending"))
    assert [type(result) for result in await asyncio.gather(*waiters, return_exceptions=True)] == [
        Draining,
        Draining,
    ]
    assert len(locks) == 2
    for release in holders:
        release()


async def test_task_cancelled_and_waiter_cancelled_at_once(locks):
    release = await locks.acquire(KEY, LONG)
    second = await waiting(locks)
    locks.cancel_waiter(KEY)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    release()
