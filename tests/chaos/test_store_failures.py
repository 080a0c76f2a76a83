"""A store that fails in every way under load: waits are short, each mode holds, and it recovers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic

import pytest

from gateway.admission.quotas import subject
from gateway.errors import StoreUnavailable
from tests.harness import bounds
from tests.harness.clock import time_passes
from tests.harness.limit_process import lag, process, requests, slots, tokens
from tests.harness.slow_proxy import SlowProxy

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(18 * bounds.TEST)]

MOST_WAIT = 0.15  # seconds that a request may wait for the store
BACK_WITHIN = 5.0 * bounds.SLOWNESS  # seconds: the longest pause, one attempt, and a margin
LIMIT = 5
HELD, OTHERS = 30.0, 8.0


class Load:
    """A stream of new callers, each with one request more than its limit."""

    def __init__(self, gateway):
        self._gateway = gateway
        self._count = 0
        self.waits, self.passed, self.refused = [], [], []

    async def go_on(self):
        while True:
            self._count += 1
            charges = self.charges(f"caller {self._count}")
            results = await asyncio.gather(*(self._one(charges) for _ in range(LIMIT + 1)))
            (self.refused if None in results else self.passed).append(results.count(True))
            await time_passes(0.005)

    def charges(self, caller):
        return [
            requests(LIMIT).charge(subject(caller)),
            tokens(10**6, reserve=10).charge(subject(caller)),
            slots(LIMIT + 1).charge(subject(caller)),
        ]

    async def _one(self, charges):
        began = monotonic()
        run = None
        with suppress(StoreUnavailable):
            run = await self._gateway.admit(*charges)
        self.waits.append(monotonic() - began)
        if run is None:
            return None
        run.settle(5)
        run.release()
        return run.is_allowed

    def forget(self):
        self.waits, self.passed, self.refused = [], [], []


@pytest.mark.parametrize("is_closed", [False, True], ids=["local", "closed"])
@pytest.mark.parametrize("failure", ["killed", "held", "slowed"])
async def test_requests_go_on(own_valkey, failure, is_closed):
    async with (
        SlowProxy(own_valkey.port) as proxy,
        process(proxy.url, "a", is_closed=is_closed, is_ticking=True) as gateway,
        process(proxy.url, "b", is_ticking=True) as other,
        lag() as lost,
    ):
        load = Load(gateway)
        running = asyncio.create_task(load.go_on())
        try:
            await time_passes(1.0)
            assert set(load.passed) == {LIMIT}
            assert load.refused == []

            await asyncio.to_thread(_break, own_valkey, proxy, failure)
            await gateway.events.until_away()
            load.forget()
            await time_passes(HELD if failure == "held" else OTHERS)
            assert max(load.waits) < MOST_WAIT + lost.most
            if is_closed:
                assert load.passed == []
                assert set(load.refused) == {0}
            else:
                assert set(load.passed) == {LIMIT}
                assert load.refused == []

            await asyncio.to_thread(_mend, own_valkey, proxy, failure)
            async with asyncio.timeout(BACK_WITHIN):
                await gateway.events.until_up()
                await other.events.until_up()
            await time_passes(0.3)
            load.forget()
            await time_passes(1.0)
            assert max(load.waits) < MOST_WAIT + lost.most
            assert set(load.passed) == {LIMIT}
            assert load.refused == []
            five = requests(LIMIT).charge(subject("everybody"))
            both = await asyncio.gather(*(one.admit(five) for one in (gateway, other) * LIMIT))
            assert sum(run.is_allowed for run in both) == LIMIT
        finally:
            running.cancel()


def _break(server, proxy, failure):
    if failure == "killed":
        server.kill()
    elif failure == "held":
        server.hold()
    else:
        proxy.delay = 2.0


def _mend(server, proxy, failure):
    if failure == "killed":
        server.start()  # empty
    elif failure == "held":
        server.go_on()
    proxy.delay = 0.0


@pytest.mark.parametrize("is_closed", [False, True], ids=["local", "closed"])
async def test_a_store_that_comes_and_goes(own_valkey, is_closed):
    """Waits are short, nothing is left behind, and every decision follows the mode."""
    async with process(own_valkey.url, is_closed=is_closed, is_ticking=True) as gateway, lag() as lost:
        load = Load(gateway)
        running = asyncio.create_task(load.go_on())
        try:
            for _ in range(10):
                await asyncio.to_thread(own_valkey.restart)
                await time_passes(0.3)
                own_valkey.hold()
                await time_passes(0.3)
                own_valkey.go_on()
                await time_passes(0.3)
            async with asyncio.timeout(BACK_WITHIN):
                await gateway.events.until_up()
            assert max(load.waits) < MOST_WAIT + lost.most
            if not is_closed:
                assert load.refused == []
        finally:
            running.cancel()
            await asyncio.wait([running])
        gateway.tick()
        await gateway.limiter.outbox.flush()
        assert len(gateway.limiter) == 0
        with own_valkey.client() as client:
            assert list(client.scan_iter("fgw:*:c:*")) == []
