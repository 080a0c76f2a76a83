"""Conversation locks across processes: one holder, one waiter, all others refused; and without the store."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from gateway.admission.redis.commands import PING
from gateway.admission.store import Losses, StoreError
from gateway.errors import ConversationBusy, Draining
from tests.harness.clock import time_passes, until
from tests.harness.limit_process import lag, process

KEY, OTHER = ("http://flowise", "chat-1"), ("http://flowise", "chat-2")
LONG = 60.0
LEASE = 0.4


@pytest.fixture
async def a(valkey):
    async with process(valkey.url, "a", is_ticking=True) as gateway:
        yield gateway


@pytest.fixture
async def b(valkey):
    async with process(valkey.url, "b", is_ticking=True) as gateway:
        yield gateway


@pytest.fixture
async def c(valkey):
    async with process(valkey.url, "c", is_ticking=True) as gateway:
        yield gateway


async def acquire(gateway, wait=LONG, key=KEY):
    return await gateway.locks.acquire(key, wait)


def stored(server, what):
    with server.client() as client:
        values = [client.get(key) for key in client.scan_iter(f"*:{what}")]
    return [value.decode() for value in values if value is not None]  # None: it has ended between the two


async def waiting(server, gateway, wait=LONG):
    """A task that waits and has the place in the queue."""
    task = asyncio.create_task(acquire(gateway, wait))
    await until(lambda: stored(server, "next"))
    await gateway.limiter.client.call(PING)
    return task


async def is_refused(gateway, match="still running; wait"):
    with pytest.raises(ConversationBusy, match=match):
        await acquire(gateway)
    return True


async def flushed(*gateways):
    for gateway in gateways:
        await gateway.limiter.outbox.flush()


async def test_one_holder_across_processes(a, b):
    release = await acquire(a)
    with pytest.raises(ConversationBusy, match="still running; wait"):
        await acquire(b, 0)
    other = await acquire(b, 0, OTHER)
    assert (len(a.locks), len(b.locks)) == (1, 1)
    release()
    release()
    await flushed(a)
    (await acquire(b, 0))()
    other()
    assert (len(a.locks), len(b.locks)) == (0, 0)


async def test_a_waiter_of_another_process_is_next(valkey, a, b, c):
    first = await acquire(a)
    second = await waiting(valkey, b)
    assert await is_refused(c)
    assert await is_refused(a)
    assert await is_refused(b)
    assert not second.done()
    first()
    release = await second
    with pytest.raises(ConversationBusy):
        await acquire(a, 0)
    release()


async def test_a_waiter_of_the_same_process_is_next(valkey, a, b):
    first = await acquire(a)
    second = await waiting(valkey, a)
    assert await is_refused(b)
    assert await is_refused(a)
    first()
    release = await second
    with pytest.raises(ConversationBusy):
        await acquire(b, 0)
    release()
    await flushed(a)
    (await acquire(b, 0))()


async def test_a_newcomer_does_not_overtake_the_waiter(valkey, a, b, c):
    for _ in range(5):
        first = await acquire(a)
        second = await waiting(valkey, b)
        first()
        with pytest.raises(ConversationBusy):
            await acquire(c, 0)
        (await second)()
        await flushed(b)


async def test_a_waiter_is_refused_after_its_wait_and_leaves_no_trace(valkey, a, b, c):
    release = await acquire(a)
    with pytest.raises(ConversationBusy, match=r"after 0\.1 s"):
        await acquire(b, 0.1)
    await flushed(b)
    assert stored(valkey, "next") == []
    third = await waiting(valkey, c)
    release()
    (await third)()


@pytest.mark.parametrize("waiter", ["a", "b"])
async def test_a_waiter_that_leaves_frees_its_place(valkey, a, b, waiter):
    release = await acquire(a)
    second = await waiting(valkey, {"a": a, "b": b}[waiter])
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await flushed(a, b)
    assert stored(valkey, "next") == []
    third = await waiting(valkey, b)
    release()
    (await third)()
    await flushed(a, b)
    assert stored(valkey, "turn") == []


async def test_cancel_a_waiter_of_this_process(valkey, a, b):
    release = await acquire(a)
    second = await waiting(valkey, b)
    assert b.locks.cancel_waiter(KEY)
    assert not b.locks.cancel_waiter(OTHER)
    with pytest.raises(ConversationBusy, match="aborted"):
        await second
    await flushed(b)
    third = await waiting(valkey, a)
    assert a.locks.cancel_waiter(KEY)
    with pytest.raises(ConversationBusy, match="aborted"):
        await third
    release()


@pytest.mark.parametrize(("waits", "calls"), [("b", "a"), ("b", "c"), ("a", "c")])
async def test_cancel_a_waiter_of_another_process(valkey, a, b, c, waits, calls):
    gateways = {"a": a, "b": b, "c": c}
    release = await acquire(a)
    second = await waiting(valkey, gateways[waits])
    assert not gateways[calls].locks.cancel_waiter(KEY)
    with pytest.raises(ConversationBusy, match="aborted"):
        await second
    release()
    await flushed(a)
    (await acquire(b, 0))()


async def test_cancel_all_waiters_leaves_the_holders(valkey, a, b):
    holder = await acquire(a)
    own = await acquire(b, key=OTHER)
    second = await waiting(valkey, b)
    third = asyncio.create_task(acquire(b, key=OTHER))
    await until(lambda: len(stored(valkey, "next")) == 2)
    b.locks.cancel_all_waiters(Draining("ending"))
    results = await asyncio.gather(second, third, return_exceptions=True)
    assert [type(result) for result in results] == [Draining, Draining]
    assert len(b.locks) == 1
    holder()
    own()


async def test_the_lock_of_a_killed_process_is_free_within_the_lease(valkey, b):
    async with process(valkey.url, "a", lease=LEASE) as a:
        await acquire(a)
    with pytest.raises(ConversationBusy):
        await acquire(b, 0)
    (await acquire(b, 5.0))()


async def test_a_long_run_keeps_its_lock_and_restores_it_in_a_store_that_lost_it(valkey, b):
    async with process(valkey.url, "a", lease=LEASE, is_ticking=True) as a:
        release = await acquire(a)
        await time_passes(2 * LEASE)
        with pytest.raises(ConversationBusy):
            await acquire(b, 0)
        with valkey.client() as client:
            client.flushall()
        await time_passes(LEASE / 2)
        with pytest.raises(ConversationBusy):
            await acquire(b, 0)
        release()


async def test_a_lock_that_another_process_took_meanwhile_is_given_up(valkey, b):
    """And not renewed, so that it is not taken back when the other run ends."""
    async with process(valkey.url, "a", lease=LEASE) as a:
        release = await acquire(a)
        await until(lambda: not stored(valkey, "turn"))
        other = await acquire(b, 0)
        a.tick()
        await until(lambda: a.events.conversations_lost)
        assert a.events.conversations_lost == [release]
        await time_passes(LEASE)
        other()
        await flushed(b)
        a.tick()
        await a.limiter.client.call(PING)
        assert a.events.lost == [Losses(conversations=1)]
        assert stored(valkey, "turn") == []
        release()
        await flushed(a)
        (await acquire(b, 0))()


async def test_a_lock_that_ended_and_is_free_is_taken_again(valkey, b):
    async with process(valkey.url, "a", lease=LEASE) as a:
        release = await acquire(a)
        await until(lambda: not stored(valkey, "turn"))
        for _ in range(2):
            a.tick()
            await a.limiter.client.call(PING)
        with pytest.raises(ConversationBusy):
            await acquire(b, 0)
        a.tick()
        assert (a.events.lost, a.events.conversations_lost) == ([Losses(locks=1)], [])
        release()


async def test_of_two_holders_one_gives_way_when_the_store_is_back(own_valkey):
    """While the store is away, each process has locks of its own."""
    async with process(own_valkey.url, "a") as a, process(own_valkey.url, "b") as b:
        own_valkey.kill()
        for gateway in (a, b):
            await gateway.events.until_away()
        held = [await acquire(gateway) for gateway in (a, b)]
        await asyncio.to_thread(own_valkey.start)
        for gateway in (a, b):
            await gateway.events.until_up()
        lost = [*a.events.conversations_lost, *b.events.conversations_lost]
        assert len(lost) == 1
        assert lost[0] in held


async def test_without_the_store_locks_are_per_process(own_valkey):
    async with process(own_valkey.url, "a") as a, process(own_valkey.url, "b", is_closed=True) as b:
        own_valkey.kill()
        await a.events.until_away()
        await b.events.until_away()
        for gateway in (a, b):
            release = await acquire(gateway)
            with pytest.raises(ConversationBusy):
                await acquire(gateway, 0)
            second = asyncio.create_task(acquire(gateway))
            await asyncio.sleep(0)
            assert await is_refused(gateway)
            release()
            (await second)()
            assert len(gateway.locks) == 0
            assert len(gateway.limiter.outbox) == 0


async def test_a_lock_acquired_without_the_store_is_known_when_it_is_back(own_valkey):
    async with process(own_valkey.url, "a") as a, process(own_valkey.url, "b") as b:
        own_valkey.kill()
        await a.events.until_away()
        release = await acquire(a)
        await asyncio.to_thread(own_valkey.start)
        await a.events.until_up()
        await b.events.until_up()
        with pytest.raises(ConversationBusy):
            await acquire(b, 0)
        release()
        await flushed(a)
        (await acquire(b, 0))()


async def test_a_waiter_that_has_seen_another_holder_gets_no_lock_when_the_store_goes_away(own_valkey):
    async with process(own_valkey.url, "a") as a, process(own_valkey.url, "b") as b:
        release = await acquire(a)
        second = await waiting(own_valkey, b, 0.4)
        own_valkey.kill()
        await b.events.until_away()
        with pytest.raises(ConversationBusy, match="after"):
            await second
        release()


async def test_a_waiter_gets_the_lock_when_the_store_is_back(own_valkey):
    async with process(own_valkey.url, "a") as a, process(own_valkey.url, "b") as b:
        release = await acquire(a)
        second = await waiting(own_valkey, b)
        own_valkey.hold()
        for gateway in (a, b):
            gateway.limiter.client.give_up(StoreError("timeout"))
        release()
        own_valkey.go_on()
        (await second)()


async def test_a_hanging_store_delays_a_lock_by_no_more_than_the_budget(own_valkey):
    async with process(own_valkey.url) as gateway:
        own_valkey.hold()
        async with lag() as lost:
            began = monotonic()
            release = await acquire(gateway)
            waited = monotonic() - began
            await time_passes(0.01)
        assert waited < 0.15 + lost.most
        release()
        own_valkey.go_on()
        await until(lambda: not len(gateway.limiter.outbox))
        await flushed(gateway)
        (await acquire(gateway, 0))()
