"""Processes that compete for a limit never exceed it; the long forms are in tests/chaos."""

from __future__ import annotations

import asyncio

from tests.harness.clock import until
from tests.harness.contenders import contenders, most_at_once, raced


async def test_exactly_the_limit_passes(valkey):
    async with contenders(valkey.url, 2) as started:
        for repetition in range(3):
            assert await raced(started, limit=30, each=100, caller=str(repetition)) == (30, 0)


async def test_slots_never_exceed_the_limit_when_a_holder_is_killed(valkey):
    async with contenders(valkey.url, 2, lease=0.5) as started:
        for one in started:
            one.send(act="hold", limit=3, hands=4, caller="me", seconds=1.5)
        watching = [asyncio.create_task(one.watch()) for one in started]
        await until(lambda: started[0].spans or watching[0].done())
        started[0].kill()
        await asyncio.gather(*watching)
        started[0].bury()
    spans = [span for one in started for span in one.spans]
    assert most_at_once(spans) == 3


def test_spans_are_counted():
    assert most_at_once([(0, 2), (1, 3), (2, 4)]) == 2
    assert most_at_once([]) == 0
