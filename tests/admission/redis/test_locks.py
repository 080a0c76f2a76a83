"""ConversationLocks over several processes: one holds, one waits, the others are refused; and what becomes of it without the store."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from gateway.admission.redis.commands import PING
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


async def take(gateway, wait=LONG, key=KEY):
    return await gateway.turns.take(key, wait)


def stored(server, what):
    with server.client() as client:
        return [client.get(key).decode() for key in client.scan_iter(f"*:{what}")]


async def waiting(server, gateway, wait=LONG):
    """A task that waits, has its place in the queue, and knows it."""
    task = asyncio.create_task(take(gateway, wait))
    await until(lambda: stored(server, "next"))
    await gateway.limiter.link.call(PING)
    return task


async def is_refused(gateway, match="still running; wait"):
    with pytest.raises(ConversationBusy, match=match):
        await take(gateway)
    return True


async def settled(*gateways):
    for gateway in gateways:
        await gateway.limiter.backlog.flush()


async def test_one_holder_over_all_processes(a, b):
    give_back = await take(a)
    with pytest.raises(ConversationBusy, match="still running; wait"):
        await take(b, 0)
    other = await take(b, 0, OTHER)
    assert (len(a.turns), len(b.turns)) == (1, 1)
    give_back()
    give_back()
    await settled(a)
    (await take(b, 0))()
    other()
    assert (len(a.turns), len(b.turns)) == (0, 0)


async def test_one_of_another_process_waits_and_is_next(valkey, a, b, c):
    first = await take(a)
    second = await waiting(valkey, b)
    assert await is_refused(c)
    assert await is_refused(a)
    assert await is_refused(b)
    assert not second.done()
    first()
    give_back = await second
    with pytest.raises(ConversationBusy):
        await take(a, 0)
    give_back()


async def test_one_of_the_same_process_waits_and_is_next(valkey, a, b):
    first = await take(a)
    second = await waiting(valkey, a)
    assert await is_refused(b)
    assert await is_refused(a)
    first()
    give_back = await second
    with pytest.raises(ConversationBusy):
        await take(b, 0)
    give_back()
    await settled(a)
    (await take(b, 0))()


async def test_nobody_is_overtaken_by_a_newcomer(valkey, a, b, c):
    for _ in range(5):
        first = await take(a)
        second = await waiting(valkey, b)
        first()
        with pytest.raises(ConversationBusy):
            await take(c, 0)
        (await second)()
        await settled(b)


async def test_who_waited_long_enough_is_refused_and_leaves_no_trace(valkey, a, b, c):
    give_back = await take(a)
    with pytest.raises(ConversationBusy, match=r"after 0\.1 s"):
        await take(b, 0.1)
    await settled(b)
    assert stored(valkey, "next") == []
    third = await waiting(valkey, c)
    give_back()
    (await third)()


@pytest.mark.parametrize("who", ["a", "b"])
async def test_who_leaves_while_waiting_frees_the_place(valkey, a, b, who):
    give_back = await take(a)
    second = await waiting(valkey, {"a": a, "b": b}[who])
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await settled(a, b)
    assert stored(valkey, "next") == []
    third = await waiting(valkey, b)
    give_back()
    (await third)()
    await settled(a, b)
    assert stored(valkey, "turn") == []


async def test_a_waiting_one_of_this_process_is_called_off(valkey, a, b):
    give_back = await take(a)
    second = await waiting(valkey, b)
    assert b.turns.call_off(KEY)
    assert not b.turns.call_off(OTHER)
    with pytest.raises(ConversationBusy, match="aborted"):
        await second
    await settled(b)
    third = await waiting(valkey, a)
    assert a.turns.call_off(KEY)
    with pytest.raises(ConversationBusy, match="aborted"):
        await third
    give_back()


@pytest.mark.parametrize(("waits", "calls"), [("b", "a"), ("b", "c"), ("a", "c")])
async def test_a_waiting_one_of_another_process_is_called_off(valkey, a, b, c, waits, calls):
    gateways = {"a": a, "b": b, "c": c}
    give_back = await take(a)
    second = await waiting(valkey, gateways[waits])
    assert not gateways[calls].turns.call_off(KEY)
    with pytest.raises(ConversationBusy, match="aborted"):
        await second
    give_back()
    await settled(a)
    (await take(b, 0))()


async def test_all_called_off_leaves_the_holders(valkey, a, b):
    holder = await take(a)
    own = await take(b, key=OTHER)
    second = await waiting(valkey, b)
    third = asyncio.create_task(take(b, key=OTHER))
    await until(lambda: len(stored(valkey, "next")) == 2)
    b.turns.call_all_off(Draining("ending"))
    results = await asyncio.gather(second, third, return_exceptions=True)
    assert [type(result) for result in results] == [Draining, Draining]
    assert len(b.turns) == 1
    holder()
    own()


async def test_the_turn_of_a_process_that_died_is_free_within_the_lease(valkey, b):
    async with process(valkey.url, "a", lease=LEASE) as a:
        await take(a)
    with pytest.raises(ConversationBusy):
        await take(b, 0)
    (await take(b, 5.0))()


async def test_a_long_run_keeps_its_turn_and_a_store_that_lost_it_is_told_again(valkey, b):
    async with process(valkey.url, "a", lease=LEASE, is_ticking=True) as a:
        give_back = await take(a)
        await time_passes(2 * LEASE)
        with pytest.raises(ConversationBusy):
            await take(b, 0)
        with valkey.client() as client:
            client.flushall()
        await time_passes(LEASE / 2)
        with pytest.raises(ConversationBusy):
            await take(b, 0)
        give_back()


async def test_without_the_store_turns_are_of_this_process(own_valkey):
    async with process(own_valkey.url, "a") as a, process(own_valkey.url, "b", is_closed=True) as b:
        own_valkey.kill()
        await a.told.until_away()
        await b.told.until_away()
        for gateway in (a, b):
            give_back = await take(gateway)
            with pytest.raises(ConversationBusy):
                await take(gateway, 0)
            second = asyncio.create_task(take(gateway))
            await asyncio.sleep(0)
            assert await is_refused(gateway)
            give_back()
            (await second)()
            assert len(gateway.turns) == 0
            assert len(gateway.limiter.backlog) == 0


async def test_a_turn_that_was_taken_without_the_store_is_known_when_it_is_back(own_valkey):
    async with process(own_valkey.url, "a") as a, process(own_valkey.url, "b") as b:
        own_valkey.kill()
        await a.told.until_away()
        give_back = await take(a)
        await asyncio.to_thread(own_valkey.start)
        await a.told.until_up()
        await b.told.until_up()
        with pytest.raises(ConversationBusy):
            await take(b, 0)
        give_back()
        await settled(a)
        (await take(b, 0))()


async def test_who_knows_of_another_holder_does_not_share_the_stream_when_the_store_goes(own_valkey):
    async with process(own_valkey.url, "a") as a, process(own_valkey.url, "b") as b:
        give_back = await take(a)
        second = await waiting(own_valkey, b, 0.4)
        own_valkey.kill()
        await b.told.until_away()
        with pytest.raises(ConversationBusy, match="after"):
            await second
        give_back()


async def test_who_waits_gets_the_turn_when_the_store_is_back(own_valkey):
    async with process(own_valkey.url, "a") as a, process(own_valkey.url, "b") as b:
        give_back = await take(a)
        second = await waiting(own_valkey, b)
        own_valkey.hold()
        for gateway in (a, b):
            gateway.limiter.link._fall("timeout")
        give_back()
        own_valkey.go_on()
        (await second)()


async def test_a_store_that_hangs_costs_a_turn_no_more_than_the_patience(own_valkey):
    async with process(own_valkey.url) as gateway:
        own_valkey.hold()
        async with lag() as lost:
            began = monotonic()
            give_back = await take(gateway)
            waited = monotonic() - began
            await time_passes(0.01)
        assert waited < 0.15 + lost.most
        give_back()
        own_valkey.go_on()
        await until(lambda: not len(gateway.limiter.backlog))
        await settled(gateway)
        (await take(gateway, 0))()
