"""A limit is never exceeded by processes that compete for it, nor when holders are killed."""

from __future__ import annotations

import asyncio
import random
from time import monotonic

import pytest

from tests.harness import bounds
from tests.harness.clock import time_passes
from tests.harness.contenders import contender, contenders, most_at_once, raced

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(30 * bounds.TEST)]

PROCESSES, REPETITIONS = 8, 50
LEASE, LIMIT = 1.0, 5


async def test_of_two_thousand_at_once_exactly_a_hundred_pass(valkey):
    async with contenders(valkey.url, PROCESSES) as started:
        for repetition in range(REPETITIONS):
            each = 2000 // PROCESSES
            assert await raced(started, limit=100, each=each, caller=str(repetition)) == (100, 0)


async def test_slots_never_exceed_the_limit_when_holders_are_killed_and_are_free_after_the_lease(valkey):
    seconds = 40.0
    chance = random.Random(1)
    buried, watching = [], []
    async with contenders(valkey.url, 4, LEASE) as started:
        alive = list(started)
        for one in alive:
            one.send(act="hold", limit=LIMIT, hands=5, caller="me", seconds=seconds)
            watching.append(asyncio.create_task(one.watch()))
        until = monotonic() + seconds - 5
        while monotonic() < until:
            await time_passes(chance.uniform(0.5, 2.0))
            dead = alive.pop(chance.randrange(len(alive)))
            dead.kill()
            buried.append(dead)
            alive.append(fresh := await contender(valkey.url, f"after {len(buried)}", LEASE))
            started.append(fresh)
            assert await fresh.answer() == {"ready": True}
            fresh.send(act="hold", limit=LIMIT, hands=5, caller="me", seconds=until + 5 - monotonic())
            watching.append(asyncio.create_task(fresh.watch()))
        await asyncio.gather(*watching)
    for dead in buried:
        dead.bury()
    spans = [span for one in started for span in one.spans]
    assert most_at_once(spans) == LIMIT
    assert len(buried) > 5
    for dead in buried:
        after = [span for span in spans if dead.killed_at + LEASE < span[0] < dead.killed_at + LEASE + 3.0]
        assert most_at_once(after) == LIMIT, "its slots were not freed"
