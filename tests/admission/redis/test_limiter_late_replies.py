"""A step that the store did too late: nothing stays taken that nobody uses, nothing is charged twice."""

from __future__ import annotations

import asyncio

import pytest

from gateway.admission.quotas import subject
from gateway.admission.store import StoreBudget
from gateway.errors import StoreUnavailable
from tests.harness.limit_process import process, requests, slots, tokens

HASTY = 0.02


def charges():
    return [
        requests(10).charge(subject("me")),
        tokens(100, per=1e6, reserve=10).charge(subject("me")),
        slots(5).charge(subject("me")),
    ]


async def remaining(gateway):
    return [status.remaining for status in await gateway.limiter.peek(charges())]


async def all_arrived(gateway):
    """Everything that was on its way has been answered, and what followed from it, too."""
    for _ in range(3):
        await gateway.limiter.peek(charges(), StoreBudget(5.0))
        await gateway.limiter.outbox.flush()


async def test_a_request_that_was_refused_meanwhile_gives_all_back(own_valkey):
    async with process(own_valkey.url, is_closed=True) as gateway:
        own_valkey.hold()
        with pytest.raises(StoreUnavailable):
            await gateway.admit(*charges(), budget=StoreBudget(HASTY))
        own_valkey.go_on()
        await all_arrived(gateway)
        assert await remaining(gateway) == [10, 100, 5]


async def test_a_client_that_left_meanwhile_gives_all_back(own_valkey):
    async with process(own_valkey.url) as gateway:
        own_valkey.hold()
        request = asyncio.create_task(gateway.admit(*charges()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        own_valkey.go_on()
        await all_arrived(gateway)
        assert await remaining(gateway) == [10, 100, 5]


async def test_a_run_that_was_let_in_meanwhile_is_charged_once(own_valkey):
    async with process(own_valkey.url) as gateway:
        own_valkey.hold()
        run = await gateway.admit(*charges(), budget=StoreBudget(HASTY))
        assert run.is_allowed
        assert not run.is_in_store
        own_valkey.go_on()
        await all_arrived(gateway)
        assert run.is_in_store
        assert await remaining(gateway) == [9, 90, 4]
        run.settle(30)
        run.release()
        await all_arrived(gateway)
        assert await remaining(gateway) == [9, 70, 5]


async def test_a_run_that_has_ended_meanwhile_is_charged_once(own_valkey):
    async with process(own_valkey.url) as gateway:
        own_valkey.hold()
        run = await gateway.admit(*charges(), budget=StoreBudget(HASTY))
        run.settle(30)
        run.release()
        own_valkey.go_on()
        await all_arrived(gateway)
        assert await remaining(gateway) == [9, 70, 5]


async def test_a_late_refusal_gives_nothing_back(own_valkey):
    async with process(own_valkey.url, is_closed=True) as gateway:
        one = slots(1).charge(subject("me"))
        holder = await gateway.admit(one, charges()[0])
        own_valkey.hold()
        with pytest.raises(StoreUnavailable):
            await gateway.admit(one, requests(10).charge(subject("me")), budget=StoreBudget(HASTY))
        own_valkey.go_on()
        await all_arrived(gateway)
        assert (await gateway.admit(one)).refused == ("open",)
        assert await remaining(gateway) == [9, 100, 4]
        holder.release()
