"""The shared store: one round trip per decision, the same results as memory, and bounded waits."""

from __future__ import annotations

from time import monotonic

import pytest

from gateway.admission.quotas import subject
from gateway.admission.redis.commands import PING
from gateway.admission.redis.limiter import RENEWAL_BATCH
from gateway.admission.store import STORE_TIMEOUT, Losses, StoreBudget, StoreError
from tests.harness.limit_process import lag, process, requests, slots, tokens
from tests.harness.slow_proxy import SlowProxy


def nothing(_):
    return None


def calls(server):
    """How often each script command was run."""
    with server.client() as client:
        stats = client.info("commandstats")
        return {
            name.removeprefix("cmdstat_"): numbers["calls"]
            for name, numbers in stats.items()
            if name in ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_multi", "cmdstat_exec")
        }


def reset(server):
    with server.client() as client:
        client.config_resetstat()


def charges(count=5):
    return [
        requests(count).charge(subject("me")),
        tokens(1000, reserve=10).charge(subject("me")),
        slots(count).charge(subject("me")),
    ]


async def test_a_decision_is_one_round_trip(valkey):
    async with process(valkey.url) as gateway:
        reset(valkey)
        for run in range(10):
            four = [*charges(), requests(99, scope="key:k").charge(subject("me"))]
            await gateway.limiter._store.apply(four, str(run), StoreBudget(), nothing)
        assert calls(valkey) == {"evalsha": 10}
        await gateway.limiter._store.peek(charges(), StoreBudget())
        assert calls(valkey) == {"evalsha": 11}
    assert len(gateway.events.took) == 11


async def test_all_or_nothing(valkey):
    async with process(valkey.url) as gateway:
        store = gateway.limiter._store
        first = await store.apply(charges(1), "1", StoreBudget(), nothing)
        assert first.is_allowed
        second = await store.apply(charges(1), "2", StoreBudget(), nothing)
        assert not second.is_allowed
        assert second.used[2] == 1
        assert await store.peek(charges(1), StoreBudget()) == pytest.approx(first.used, abs=10**6)


async def test_a_call_spends_the_budget_of_its_request(valkey):
    async with SlowProxy(valkey.port) as proxy, process(proxy.url) as gateway:
        proxy.delay = 0.03
        budget = StoreBudget()
        await gateway.limiter._store.apply(charges(), "1", budget, nothing)
        assert budget.left <= STORE_TIMEOUT - 0.02  # a timer may be early by a millisecond


async def test_after_a_failure_the_same_request_does_not_wait_again(own_valkey):
    async with process(own_valkey.url) as gateway:
        own_valkey.hold()
        store, budget, took = gateway.limiter._store, StoreBudget(0.3), []
        async with lag() as lost:
            for _ in range(2):
                began = monotonic()
                with pytest.raises(StoreError, match="timeout"):
                    await store.apply(charges(), "1", budget, nothing)
                took.append(monotonic() - began)
        assert took[0] > 0.25
        assert took[1] < 0.25 + lost.sum
        own_valkey.go_on()


async def test_many_leases_are_renewed_in_several_commands(valkey):
    async with process(valkey.url) as gateway:
        many = slots(1000).charge(subject("me"))
        runs = [await gateway.admit(many) for _ in range(2 * RENEWAL_BATCH + 1)]
        with valkey.client() as client:
            client.flushdb()
        reset(valkey)
        gateway.limiter._renew()
        await gateway.limiter.client.call(PING)
        assert calls(valkey) == {"evalsha": 3}
        with valkey.client() as client:
            assert client.zcard(many.key) == len(runs)
        gateway.tick()
        assert gateway.events.lost == [Losses(slots=len(runs))]


async def test_a_failed_renewal_is_not_retried(own_valkey):
    async with process(own_valkey.url) as gateway:
        own_valkey.kill()
        await gateway.events.until_away()
        gateway.limiter._store.renew([(slots(1).charge(subject("me")).key, "1")], nothing)
        assert not gateway.limiter._store.is_up
        assert len(gateway.limiter.outbox) == 0
