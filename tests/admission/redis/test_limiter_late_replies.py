"""Charges that the store applied after the caller had timed out: unused ones are refunded, none is made twice."""

from __future__ import annotations

import asyncio

import pytest

from gateway.admission.quotas import subject
from gateway.admission.store import StoreBudget
from gateway.errors import StoreUnavailable
from tests.harness.limit_process import process, requests, slots, tokens

SHORT = 0.02


def charges():
    return [
        requests(10).charge(subject("me")),
        tokens(100, per=1e6, reserve=10).charge(subject("me")),
        slots(5).charge(subject("me")),
    ]


async def remaining(gateway):
    return [status.remaining for status in await gateway.limiter.peek(charges())]


async def all_settled(gateway):
    """Wait until everything sent has a reply, and also what was sent because of it."""
    for _ in range(3):
        await gateway.limiter.peek(charges(), StoreBudget(5.0))
        await gateway.limiter.outbox.flush()


async def test_a_request_refused_meanwhile_is_refunded(own_valkey):
    async with process(own_valkey.url, is_closed=True) as gateway:
        own_valkey.hold()
        with pytest.raises(StoreUnavailable):
            await gateway.admit(*charges(), budget=StoreBudget(SHORT))
        own_valkey.go_on()
        await all_settled(gateway)
        assert await remaining(gateway) == [10, 100, 5]


async def test_a_client_that_left_meanwhile_is_refunded(own_valkey):
    async with process(own_valkey.url) as gateway:
        own_valkey.hold()
        request = asyncio.create_task(gateway.admit(*charges()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        own_valkey.go_on()
        await all_settled(gateway)
        assert await remaining(gateway) == [10, 100, 5]


async def test_a_run_admitted_meanwhile_is_charged_once(own_valkey):
    async with process(own_valkey.url) as gateway:
        own_valkey.hold()
        run = await gateway.admit(*charges(), budget=StoreBudget(SHORT))
        assert run.is_allowed
        assert not run.is_in_store
        own_valkey.go_on()
        await all_settled(gateway)
        assert run.is_in_store
        assert await remaining(gateway) == [9, 90, 4]
        run.settle(30)
        run.release()
        await all_settled(gateway)
        assert await remaining(gateway) == [9, 70, 5]


async def test_a_run_that_ended_meanwhile_is_charged_once(own_valkey):
    async with process(own_valkey.url) as gateway:
        own_valkey.hold()
        run = await gateway.admit(*charges(), budget=StoreBudget(SHORT))
        run.settle(30)
        run.release()
        own_valkey.go_on()
        await all_settled(gateway)
        assert await remaining(gateway) == [9, 70, 5]


async def test_a_late_refusal_refunds_nothing(own_valkey):
    async with process(own_valkey.url, is_closed=True) as gateway:
        one = slots(1).charge(subject("me"))
        holder = await gateway.admit(one, charges()[0])
        own_valkey.hold()
        with pytest.raises(StoreUnavailable):
            await gateway.admit(one, requests(10).charge(subject("me")), budget=StoreBudget(SHORT))
        own_valkey.go_on()
        await all_settled(gateway)
        assert (await gateway.admit(one)).refused == ("open",)
        assert await remaining(gateway) == [9, 100, 4]
        holder.release()
