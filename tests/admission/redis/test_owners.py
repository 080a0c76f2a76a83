from __future__ import annotations

import pytest

from gateway.admission.redis.outbox import Outbox
from gateway.admission.redis.owners import LONGEST_OWNER, SharedOwners
from gateway.admission.store import StoreBudget
from gateway.errors import StoreUnavailable
from tests.admission.redis.test_client import connected
from tests.harness.clock import until


def owners(client, events):
    return SharedOwners(client, Outbox(client, events.listener), events.listener)


async def test_another_process_finds_what_one_has_remembered(valkey):
    async with connected(valkey.url) as (client, events):
        one, two = owners(client, events), owners(client, events)
        await one.remember("a", "chat ann", StoreBudget())
        assert await two.find("a", StoreBudget()) == "chat ann"
        assert await two.find("b", StoreBudget()) is None
    assert events.failed == []


async def test_what_could_not_be_stored_is_stored_when_the_store_is_back(own_valkey):
    async with connected(own_valkey.url) as (client, events):
        outbox = Outbox(client, events.listener)
        one, two = SharedOwners(client, outbox, events.listener), owners(client, events)
        own_valkey.kill()
        await until(lambda: not client.is_up)
        await one.remember("a", "chat ann", StoreBudget())
        assert await one.find("a", StoreBudget()) == "chat ann"
        with pytest.raises(StoreUnavailable):
            await two.find("a", StoreBudget())
        own_valkey.start()
        await until(lambda: client.is_up)
        outbox.tick()
        await outbox.flush()
        assert await two.find("a", StoreBudget()) == "chat ann"


async def test_a_key_that_holds_something_else_is_no_owner_and_takes_the_store_from_nobody(valkey):
    async with connected(valkey.url) as (client, events):
        one = owners(client, events)
        await one.remember("a", "chat ann", StoreBudget())
        with valkey.client() as other:
            (key,) = other.keys("fgw:{feedback}:*")
            other.set(key, "x" * (LONGEST_OWNER + 1))
            assert await owners(client, events).find("a", StoreBudget()) is None
            other.delete(key)
            other.lpush(key, "x")
            with pytest.raises(StoreUnavailable):
                await owners(client, events).find("a", StoreBudget())
        assert client.is_up


async def test_a_request_whose_time_for_the_store_is_used_up_does_not_wait(valkey):
    async with connected(valkey.url) as (client, events):
        budget = StoreBudget()
        budget.exhaust()
        with pytest.raises(StoreUnavailable):
            await owners(client, events).find("a", budget)
