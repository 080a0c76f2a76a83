"""The limiter without a store: admissions, settlements, slots."""

from __future__ import annotations

import pytest

from gateway.admission.gcra import SECOND
from gateway.admission.limiter import LEASE, Limiter
from gateway.admission.memory import MemoryStore
from gateway.admission.quotas import subject
from tests.harness.limit_process import requests, slots, tokens


class Clock:
    now = 0.0

    def __call__(self):
        return round(self.now * SECOND)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limiter(clock):
    return Limiter(MemoryStore(int(LEASE * SECOND), clock), "a")


async def test_admit_settle_release(limiter):
    await limiter.start()
    burst, daily, open_ = requests(2), tokens(100, per=100.0, reserve=10), slots(1)
    charges = [one.charge(subject("me"), 40) for one in (burst, daily, open_)]
    first = await limiter.admit(charges)
    assert first.is_allowed
    assert [status.remaining for status in first.statuses] == [1, 80, 0]
    second = await limiter.admit(charges)
    assert second.refused == ("open",)
    first.settle(30)
    first.release()
    assert [status.remaining for status in await limiter.peek(charges)] == [1, 70, 1]
    assert (await limiter.admit(charges)).is_allowed
    assert (await limiter.admit(charges)).refused == ("burst", "open")
    await limiter.close()


async def test_the_memory_path_never_waits(limiter):
    coroutine = limiter.admit([requests(1).charge(subject("me"))])
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    assert done.value.value.is_allowed


async def test_leases_are_unique(limiter):
    leases = {(await limiter.admit([slots(9).charge(subject("me"))])).lease for _ in range(5)}
    assert leases == {f"a:{count}" for count in range(1, 6)}


async def test_a_run_keeps_its_slot_however_long_it_takes(limiter, clock):
    charge = slots(1).charge(subject("me"))
    run = await limiter.admit([charge])
    while clock.now < 10 * LEASE:
        clock.now += 0.25
        limiter.tick(clock.now)
        assert (await limiter.peek([charge]))[0].remaining == 0
    run.release()
    assert len(limiter) == 0
    assert (await limiter.peek([charge]))[0].remaining == 1


async def test_a_process_that_stood_still_does_not_count_its_runs_as_ended(limiter, clock):
    charge = slots(1).charge(subject("me"))
    await limiter.admit([charge])
    clock.now = 2 * LEASE  # no tick in between
    assert (await limiter.admit([charge])).refused == ("open",)


async def test_without_ticks_a_slot_is_free_after_the_lease(limiter, clock):
    charge = slots(1).charge(subject("me"))
    await limiter.admit([charge])
    clock.now = LEASE
    assert (await limiter.peek([charge]))[0].remaining == 1


async def test_settling_with_the_reservation_changes_nothing(limiter):
    daily = tokens(100, per=100.0, reserve=10)
    run = await limiter.admit([daily.charge(subject("me"), 40)])
    run.settle(20)
    assert (await limiter.peek([daily.charge(subject("me"))]))[0].remaining == 80


async def test_a_run_without_tokens_refunds_its_reservation(limiter):
    daily = tokens(100, per=100.0, reserve=10)
    run = await limiter.admit([daily.charge(subject("me"))])
    run.settle(0)
    assert (await limiter.peek([daily.charge(subject("me"))]))[0].remaining == 100


async def test_every_token_limit_is_settled(limiter):
    route, key = tokens(100, per=100.0), tokens(1000, per=100.0, scope="key:k")
    charges = [route.charge(subject("me")), key.charge(subject("me"))]
    (await limiter.admit(charges)).settle(60)
    assert [status.remaining for status in await limiter.peek(charges)] == [40, 940]


async def test_without_limits_everything_is_admitted(limiter):
    run = await limiter.admit([])
    assert run.is_allowed
    run.settle(5)
    run.release()
    assert await limiter.peek([]) == []
