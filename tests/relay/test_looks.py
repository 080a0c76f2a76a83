"""How often a call is looked at: thousands of streams that flow would take a tenth of a core with each tick."""

from __future__ import annotations

from collections import Counter

import pytest

from gateway.errors import Unauthenticated
from gateway.relay.call import UpstreamCall
from gateway.relay.registry import InFlight
from tests.harness.clock import until
from tests.harness.frames import ASK, END, PATH, WHOLE
from tests.harness.held_stream import Held
from tests.harness.raw_upstream import RawUpstream

ROUNDS = 60  # ticks of the gateway


@pytest.fixture
def seen(monkeypatch, hurried):
    """How often the gateway has ticked, and looked at a call."""
    counts = Counter()

    def counted(kind, name):
        tick = kind.tick

        def counting(self, now):
            counts[name] += 1
            return tick(self, now)

        monkeypatch.setattr(kind, "tick", counting)

    counted(InFlight, "ticks")
    counted(UpstreamCall, "looks")
    return counts


@pytest.fixture
async def upstream():
    """Sends an event, and the rest once `held.may_finish` is set."""
    held = Held()
    async with RawUpstream(held) as flowise:
        flowise.held = held
        yield flowise
        held.may_finish.set()


@pytest.mark.parametrize(
    ("heartbeat", "withhold", "least", "most"),
    [
        ("45s", [], 0, 3),
        ("45s", ["end"], 0, 3),
        ("200ms", [], 2, ROUNDS / 5),  # a tick takes 10 ms
        ("200ms", ["end"], 2, ROUNDS / 5),
    ],
)
async def test_a_stream_that_flows_is_looked_at_when_something_may_be_due(
    start, connect, seen, upstream, heartbeat, withhold, least, most
):
    settings = {
        "route": {"heartbeat": heartbeat, "events": {"withhold": withhold}},
        "server": {"timeouts": {"send": "200ms"}},  # of which there is nothing to see while the client reads
    }
    async with start(upstream.url, **settings) as gateway, connect(gateway) as wire:
        wire.post(PATH, ASK)
        await wire.head()
        await wire.until(b'"a"')
        seen.clear()
        await until(lambda: seen["ticks"] >= ROUNDS)
        assert least <= seen["looks"] <= most
        upstream.held.may_finish.set()
        await wire.until(b'"metadata"')


async def test_so_is_a_stream_before_its_first_event(start, connect, seen):
    held = Held(b"", WHOLE)
    async with RawUpstream(held) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, ASK)
        await wire.head()
        seen.clear()
        await until(lambda: seen["ticks"] >= ROUNDS)
        assert seen["looks"] <= 3
        held.may_finish.set()
        await wire.until(END)


@pytest.mark.parametrize("end", ["the client leaves", "its key is revoked"])
async def test_what_flows_no_more_is_looked_at_with_each_tick(start, connect, seen, upstream, end):
    settings = {"route": {"on_disconnect": "ignore"}}
    async with start(upstream.url, **settings) as gateway:
        async with connect(gateway) as wire:
            wire.post(PATH, ASK)
            await wire.head()
            await wire.until(b'"a"')
            seen.clear()
            await until(lambda: seen["ticks"] >= ROUNDS)  # the next look is far away
            if end != "the client leaves":
                (call,) = gateway.open_calls()
                call.terminate(Unauthenticated("The key of this request has been revoked or has expired."))
                await wire.until(END)
        await until(lambda: not gateway.connections())
        seen.clear()
        await until(lambda: seen["ticks"] >= ROUNDS)
        assert seen["looks"] >= ROUNDS - 2
