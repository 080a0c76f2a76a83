"""Limits over several processes, with the store up, slow, held, killed and back; the long form is in tests/chaos."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from gateway.admission.quotas import subject
from gateway.admission.redis.pipeline import FAILURES
from gateway.admission.store import Losses, StoreBudget
from gateway.errors import StoreUnavailable
from tests.harness.clock import time_passes, until
from tests.harness.limit_process import lag, process, requests, slots, tokens
from tests.harness.slow_proxy import SlowProxy

MOST_WAIT = 0.15  # seconds that a request may wait for the store
LEASE = 0.4


async def timed(awaitable):
    began = monotonic()
    try:
        return await awaitable, monotonic() - began
    except StoreUnavailable as error:
        return error, monotonic() - began


async def flushed(*gateways):
    for gateway in gateways:
        await gateway.limiter.outbox.flush()


async def test_processes_share_a_limit(valkey):
    five = requests(5)
    async with process(valkey.url, "a") as a, process(valkey.url, "b") as b:
        passed = await asyncio.gather(*(one.admit(five.charge(subject("me"))) for one in (a, b) * 10))
        assert sum(run.is_allowed for run in passed) == 5
        assert [status.remaining for status in await b.limiter.peek([five.charge(subject("me"))])] == [0]
        assert (await a.admit(five.charge(subject("you")))).is_allowed


async def test_processes_share_slots(valkey):
    two = slots(2)
    async with process(valkey.url, "a") as a, process(valkey.url, "b") as b:
        runs = [await one.admit(two.charge(subject("me"))) for one in (a, b, a, b)]
        assert [run.is_allowed for run in runs] == [True, True, False, False]
        runs[0].release()
        runs[0].release()
        await flushed(a)
        again = [await b.admit(two.charge(subject("me"))) for _ in range(2)]
        assert [run.is_allowed for run in again] == [True, False]


async def test_tokens_are_settled_once(valkey):
    daily = tokens(1000, per=1e6, reserve=100)
    async with process(valkey.url) as gateway:
        run = await gateway.admit(daily.charge(subject("me")))
        for _ in range(2):
            run.settle(1500)
        await flushed(gateway)
        assert (await gateway.admit(daily.charge(subject("me")))).refused == ("daily",)
        (status,) = await gateway.limiter.peek([daily.charge(subject("me"))])
        assert status.retry_after == pytest.approx(0.5e6 + 1000, abs=10)  # a debt of 500, and one token


async def test_a_killed_gateway_frees_its_slots_and_keeps_its_reservation_spent(valkey):
    open_, daily = slots(1), tokens(100, per=1e6, reserve=60)
    async with process(valkey.url, "b", lease=LEASE) as b:
        async with process(valkey.url, "a", lease=LEASE) as a:
            assert (await a.admit(open_.charge(subject("me")), daily.charge(subject("me")))).is_allowed
        assert (await b.admit(open_.charge(subject("me")))).refused == ("open",)
        await time_passes(LEASE)
        assert (await b.admit(open_.charge(subject("me")))).is_allowed
        assert [status.remaining for status in await b.limiter.peek([daily.charge(subject("me"))])] == [40]


async def test_a_gateway_that_closes_leaves_no_slot_taken(valkey):
    one = slots(1)
    async with process(valkey.url, "b") as b:
        async with process(valkey.url, "a") as a:
            (await a.admit(one.charge(subject("me")))).release()
        assert (await b.admit(one.charge(subject("me")))).is_allowed


async def test_a_run_keeps_its_slot_and_restores_it_in_a_store_that_lost_it(valkey):
    one = slots(1)
    async with process(valkey.url, lease=LEASE, is_ticking=True) as gateway:
        run = await gateway.admit(one.charge(subject("me")))
        await time_passes(2 * LEASE)
        assert (await gateway.admit(one.charge(subject("me")))).refused == ("open",)
        with valkey.client() as client:
            client.flushall()
        await time_passes(LEASE)
        assert (await gateway.admit(one.charge(subject("me")))).refused == ("open",)
        run.release()
        await flushed(gateway)
        assert (await gateway.admit(one.charge(subject("me")))).is_allowed


async def test_a_lease_that_ended_while_its_process_stood_still_is_taken_again_above_the_limit(valkey):
    """And it is said once. The process that stood still renews before it admits another run."""
    one = slots(1).charge(subject("me"))
    async with process(valkey.url, "b") as b, process(valkey.url, "a", lease=LEASE) as a:
        stalled = await a.admit(one)
        await time_passes(1.2 * LEASE)
        other = await b.admit(one)
        assert other.is_allowed
        assert (await a.admit(one)).refused == ("open",)
        other.release()
        await flushed(b)
        assert (await b.admit(one)).refused == ("open",)
        for _ in range(2):
            a.tick()
        assert a.events.lost == [Losses(slots=1)]
        stalled.release()
        await flushed(a)
        assert (await b.admit(one)).is_allowed
        b.tick()
        assert b.events.lost == []


async def test_a_run_admitted_without_the_store_has_lost_nothing(own_valkey):
    own_valkey.kill()
    async with process(own_valkey.url, is_ticking=True, lease=LEASE) as gateway:
        assert (await gateway.admit(slots(1).charge(subject("me")))).is_allowed
        await asyncio.to_thread(own_valkey.start)
        await gateway.events.until_up()
        await time_passes(LEASE)
        assert gateway.events.lost == []
        await asyncio.to_thread(own_valkey.restart)
        await until(lambda: gateway.events.lost)
        assert gateway.events.lost == [Losses(slots=1)]


@pytest.mark.parametrize("is_closed", [False, True], ids=["local", "closed"])
@pytest.mark.parametrize("failure", ["killed", "held", "slowed"])
async def test_without_the_store(own_valkey, failure, is_closed):
    """No request waits long; in `local` the limit holds per process, in `closed` none passes; then it is shared again."""
    three = requests(3)
    async with SlowProxy(own_valkey.port) as proxy, process(proxy.url, is_closed=is_closed) as gateway:
        assert (await gateway.admit(three.charge(subject("me")))).is_allowed
        proxy.delay = 2.0 if failure == "slowed" else 0.0
        if failure != "slowed":
            await asyncio.to_thread(own_valkey.kill if failure == "killed" else own_valkey.hold)
        async with lag() as lost:
            answers = [await timed(gateway.admit(three.charge(subject("me")))) for _ in range(FAILURES + 5)]
            await time_passes(0.01)
        assert max(waited for _, waited in answers) < MOST_WAIT + lost.most
        assert max(waited for _, waited in answers[FAILURES:]) < 0.02 + lost.most
        if is_closed:
            assert all(isinstance(answer, StoreUnavailable) for answer, _ in answers)
            assert {answer.headers["Retry-After"] for answer, _ in answers} == {"1"}
        else:
            assert [answer.is_allowed for answer, _ in answers] == [True] * 3 + [False] * (FAILURES + 2)
        assert gateway.events.failed
        assert gateway.events.changed[-1][0] is False
        if failure == "killed":
            await asyncio.to_thread(own_valkey.start)
        elif failure == "held":
            own_valkey.go_on()
        proxy.delay = 0.0
        await gateway.events.until_up()
        passed = sum([(await gateway.admit(three.charge(subject("you")))).is_allowed for _ in range(5)])
        assert passed == 3


async def test_a_store_that_refuses_writes_is_away(own_valkey):
    five = requests(5)
    async with process(own_valkey.url) as gateway:
        with own_valkey.client() as client:
            client.replicaof("127.0.0.1", 1)
            for _ in range(3):
                assert (await gateway.admit(five.charge(subject("me")))).is_allowed
            assert gateway.events.failed == ["reply", "away", "away"]
            assert gateway.events.changed[-1] == (False, "READONLY")
            tries = len(gateway.events.changed)
            await time_passes(0.3)
            assert gateway.events.changed[tries:] == []
            assert not gateway.limiter.client.is_up
            client.replicaof("NO", "ONE")
        await gateway.events.until_up()
        assert (await gateway.admit(five.charge(subject("me")))).is_in_store


async def test_peek_without_the_store(own_valkey):
    three = requests(3)
    async with process(own_valkey.url, "a") as local, process(own_valkey.url, "b", is_closed=True) as closed:
        own_valkey.kill()
        await local.events.until_away()
        await closed.events.until_away()
        assert [status.remaining for status in await local.limiter.peek([three.charge(subject("me"))])] == [3]
        assert await closed.limiter.peek([]) == []
        with pytest.raises(StoreUnavailable):
            await closed.limiter.peek([three.charge(subject("me"))])


async def test_running_requests_count_locally_without_the_store_and_in_the_store_when_it_is_back(own_valkey):
    two = slots(2)
    async with process(own_valkey.url, "a") as a, process(own_valkey.url, "b") as b:
        first = await a.admit(two.charge(subject("me")))
        own_valkey.kill()
        await a.events.until_away()
        second = await a.admit(two.charge(subject("me")))
        assert [second.is_allowed, (await a.admit(two.charge(subject("me")))).is_allowed] == [True, False]
        first.release()
        third = await a.admit(two.charge(subject("me")))
        assert third.is_allowed
        await asyncio.to_thread(own_valkey.start)
        await a.events.until_up()
        await b.events.until_up()
        assert (await b.admit(two.charge(subject("me")))).refused == ("open",)
        second.release()
        third.release()
        await flushed(a)
        assert (await b.limiter.peek([two.charge(subject("me"))]))[0].remaining == 2


async def test_settlements_made_without_the_store_are_applied_when_it_is_back(own_valkey):
    one, daily = slots(1), tokens(1000, per=1e6, reserve=100)
    async with process(own_valkey.url, is_ticking=True) as gateway:
        run = await gateway.admit(one.charge(subject("me")), daily.charge(subject("me")))
        own_valkey.hold()
        for _ in range(FAILURES):
            assert not (await gateway.admit(one.charge(subject("me")), budget=StoreBudget(0.02))).is_allowed
        assert not gateway.limiter.client.is_up
        run.settle(300)
        run.release()
        own_valkey.go_on()
        await gateway.events.until_up()
        await flushed(gateway)
        left = await gateway.limiter.peek([one.charge(subject("me")), daily.charge(subject("me"))])
        assert [status.remaining for status in left] == [1, 700]


async def test_a_run_that_began_without_the_store_is_charged_there_if_it_ends_with_it(own_valkey):
    daily = tokens(1000, per=1e6, reserve=100)
    async with process(own_valkey.url) as gateway:
        own_valkey.kill()
        await gateway.events.until_away()
        runs = [await gateway.admit(daily.charge(subject("me"))) for _ in range(2)]
        runs[0].settle(500)
        assert [status.remaining for status in await gateway.limiter.peek([daily.charge(subject("me"))])] == [
            400
        ]
        await asyncio.to_thread(own_valkey.start)
        await gateway.events.until_up()
        assert [status.remaining for status in await gateway.limiter.peek([daily.charge(subject("me"))])] == [
            1000
        ]
        runs[1].settle(250)
        await flushed(gateway)
        assert [status.remaining for status in await gateway.limiter.peek([daily.charge(subject("me"))])] == [
            750
        ]


async def test_a_store_whose_clock_steps_back_locks_no_caller_out(valkey):
    burst, open_ = requests(2, per=0.2), slots(1)
    async with process(valkey.url, lease=0.2, now=10**15) as gateway:
        commands = gateway.limiter._store._commands
        for _ in range(2):
            run = await gateway.admit(burst.charge(subject("me")), open_.charge(subject("me")))
            assert run.is_allowed
            run.release()
            await flushed(gateway)
        lost = await gateway.admit(open_.charge(subject("me")))
        assert lost.is_allowed
        commands.now -= 3600 * 10**6
        assert (await gateway.admit(burst.charge(subject("me")), open_.charge(subject("me")))).refused == (
            "burst",
            "open",
        )
        commands.now += 200_000
        assert (await gateway.admit(burst.charge(subject("me")), open_.charge(subject("me")))).is_allowed


async def test_a_process_starts_while_the_store_is_away(own_valkey):
    own_valkey.kill()
    async with process(own_valkey.url) as gateway:
        assert (await gateway.admit(requests(1).charge(subject("me")))).is_allowed
        assert gateway.events.changed == [(False, "refused")]
        await asyncio.to_thread(own_valkey.start)
        await gateway.events.until_up()
        await until(lambda: gateway.limiter.client.is_up)


async def test_without_limits_the_store_is_not_called(own_valkey):
    async with process(own_valkey.url, is_closed=True) as gateway:
        own_valkey.kill()
        assert (await gateway.admit()).is_allowed


async def test_a_request_cancelled_as_its_reply_arrives_is_refunded(valkey, monkeypatch):
    """The reply has come, and the task is cancelled before it wakes."""
    charges = [
        requests(5).charge(subject("me")),
        tokens(1000, per=1e6, reserve=100).charge(subject("me")),
        slots(1).charge(subject("me")),
    ]
    async with process(valkey.url) as gateway:
        queue = gateway.limiter.client._queue
        on_reply = queue.on_reply
        admitting = asyncio.create_task(gateway.limiter.admit(charges))

        def took(answer):
            on_reply(answer)
            admitting.cancel()

        monkeypatch.setattr(queue, "on_reply", took)
        with pytest.raises(asyncio.CancelledError):
            await admitting
        monkeypatch.setattr(queue, "on_reply", on_reply)
        await flushed(gateway)
        left = await gateway.limiter.peek(charges)
    assert [status.remaining for status in left] == [5, 1000, 1]
