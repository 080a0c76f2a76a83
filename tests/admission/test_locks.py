"""Turns: who gets one, who waits, who is refused, and that none is ever left behind."""

from __future__ import annotations

import asyncio

import pytest

from gateway.admission.locks import ConversationLocks
from gateway.errors import ConversationBusy, Draining

KEY, OTHER = ("main", "chat-1"), ("main", "chat-2")
LONG = 60.0


@pytest.fixture
def turns():
    turns = ConversationLocks()
    yield turns
    assert len(turns) == 0


async def waiting(turns, wait=LONG):
    """A task that waits for the turn."""
    task = asyncio.create_task(turns.take(KEY, wait))
    await let_run()
    return task


async def let_run():
    """Let every task run until it waits."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_one_holder(turns):
    give_back = await turns.take(KEY, LONG)
    assert turns.is_busy(KEY)
    assert not turns.is_busy(OTHER)
    give_back()
    assert not turns.is_busy(KEY)


async def test_conversations_do_not_wait_for_each_other(turns):
    for give_back in (
        await turns.take(KEY, 0),
        await turns.take(OTHER, 0),
        await turns.take(("second", "chat-1"), 0),
    ):
        give_back()


async def test_who_may_not_wait_is_refused(turns):
    give_back = await turns.take(KEY, 0)
    with pytest.raises(ConversationBusy, match="still running; wait"):
        await turns.take(KEY, 0)
    assert turns.is_busy(KEY)
    give_back()


async def test_the_one_who_waits_is_next_and_a_third_is_refused(turns):
    first = await turns.take(KEY, LONG)
    second = await waiting(turns)
    with pytest.raises(ConversationBusy, match="still running; wait"):
        await turns.take(KEY, LONG)
    assert not second.done()
    first()
    assert turns.is_busy(KEY)
    (await second)()


async def test_a_turn_passes_along_a_row(turns):
    give_back = await turns.take(KEY, LONG)
    for _ in range(5):
        following = await waiting(turns)
        give_back()
        give_back = await following
    give_back()


async def test_giving_back_twice_takes_it_from_nobody(turns):
    first = await turns.take(KEY, LONG)
    second = await waiting(turns)
    first()
    give_back = await second
    first()
    assert turns.is_busy(KEY)
    with pytest.raises(ConversationBusy):
        await turns.take(KEY, 0)
    give_back()
    give_back()


async def test_who_waited_long_enough_is_refused(turns):
    give_back = await turns.take(KEY, LONG)
    with pytest.raises(ConversationBusy, match=r"after 0\.001 s"):
        await turns.take(KEY, 0.001)
    third = await waiting(turns)
    give_back()
    (await third)()


async def test_cancelled_while_waiting_frees_the_place(turns):
    first = await turns.take(KEY, LONG)
    second = await waiting(turns)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    third = await waiting(turns)
    first()
    (await third)()


async def test_cancelled_in_the_moment_of_the_hand_over_passes_it_on(turns):
    first = await turns.take(KEY, LONG)
    second = await waiting(turns)
    first()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert not turns.is_busy(KEY)


async def test_cancelled_in_the_hand_over_passes_it_to_who_has_come_since(turns):
    first = await turns.take(KEY, LONG)
    second = await waiting(turns)
    coroutine = turns.take(KEY, LONG)
    first()
    future = coroutine.send(None)  # the third waits before the second has woken
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert future.done()
    with pytest.raises(StopIteration) as taken:
        coroutine.send(None)
    taken.value.value()


async def test_called_off(turns):
    assert not turns.call_off(KEY)
    give_back = await turns.take(KEY, LONG)
    assert not turns.call_off(KEY)
    second = await waiting(turns)
    assert turns.call_off(KEY)
    assert not turns.call_off(KEY)
    with pytest.raises(ConversationBusy, match="aborted"):
        await second
    third = await waiting(turns)
    give_back()
    (await third)()


async def test_called_off_after_the_hand_over_is_too_late(turns):
    first = await turns.take(KEY, LONG)
    second = await waiting(turns)
    first()
    assert not turns.call_off(KEY)
    (await second)()


async def test_all_called_off_leaves_the_holders(turns):
    holders = [await turns.take(key, LONG) for key in (KEY, OTHER)]
    waiters = [asyncio.create_task(turns.take(key, LONG)) for key in (KEY, OTHER)]
    await let_run()
    turns.call_all_off(Draining("ending"))
    assert [type(result) for result in await asyncio.gather(*waiters, return_exceptions=True)] == [
        Draining,
        Draining,
    ]
    assert len(turns) == 2
    for give_back in holders:
        give_back()


async def test_cancelled_and_called_off_at_once(turns):
    give_back = await turns.take(KEY, LONG)
    second = await waiting(turns)
    turns.call_off(KEY)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    give_back()
