"""The two changes that the gateway makes to a stream: heartbeats between events, and whole events withheld."""

from __future__ import annotations

import asyncio
import math

import pytest

from gateway.relay.writers import EventStreamWriter
from tests.harness.clock import time_passes
from tests.harness.frames import ASK, END, METADATA, PATH, START, WHOLE, event, only, stream, token
from tests.harness.held_stream import Held
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream

BEAT = b":\n\n"
TICK = 0.25  # seconds
TRACE = event("agentFlowExecutedData", '"%s"' % ("x" * 700_000))
OWN = event("somethingNew", "[1]")


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


async def relayed(start, connect, script, **route):
    async with (
        RawUpstream(script) as upstream,
        start(upstream.url, route=route) as gateway,
        connect(gateway) as wire,
    ):
        wire.post(PATH, ASK)
        reply = await wire.reply()
        return reply, await only(gateway)


@pytest.mark.parametrize("held", [b"", b'message:\ndata:{"event":"to'])
async def test_a_heartbeat_stands_between_two_events(start, connect, hurried, held):
    """While an event is half there, nothing of it was sent, so the heartbeat stands before it."""
    beat_seen = asyncio.Event()
    rest = token("a").removeprefix(held) + METADATA + END

    async def script(peer, _):
        peer.send(STREAM_HEAD + chunk(START))
        if held:
            peer.chunk(held)
        await beat_seen.wait()
        peer.chunk(rest)
        peer.chunk(b"")

    async with RawUpstream(script) as upstream, start(upstream.url, route={"heartbeat": "50ms"}) as gateway:
        async with connect(gateway) as wire:
            wire.post(PATH, ASK)
            await wire.head()
            assert await wire.chunk() == START
            assert await wire.chunk() == BEAT
            assert await wire.chunk() == BEAT
            beat_seen.set()
            body = await wire.until(END)
            line = await only(gateway)
    assert body.replace(BEAT, b"") == token("a") + METADATA + END
    assert (line["outcome"], line["events"]) == ("ok", 4)


async def test_a_heartbeat_comes_before_the_first_event(start, connect, hurried):
    held = Held(b"", WHOLE)
    async with RawUpstream(held) as upstream, start(upstream.url, route={"heartbeat": "50ms"}) as gateway:
        async with connect(gateway) as wire:
            wire.post(PATH, ASK)
            await wire.head()
            assert await wire.chunk() == BEAT
            held.may_finish.set()
            body = await wire.until(END)
    assert body.replace(BEAT, b"") == WHOLE


class SilentClient:
    """Of which nothing waits to be taken."""

    bytes_out = 10
    last_byte_at = 100.0
    is_chunked = True

    def tick(self, now):
        return math.inf

    def write(self, data):
        self.bytes_out += len(data)


@pytest.mark.parametrize("after", [15.0, 20.0, 45.0, 50.0, 55.0])
def test_in_a_silent_stream_a_heartbeat_comes_with_the_tick_in_which_it_is_due(after):
    client = SilentClient()
    writer = EventStreamWriter(client, lambda _: b"", heartbeat=(BEAT, after))
    assert beat_at(writer, client, 100.0) == (100.0 + after, 2)


@pytest.mark.parametrize("came_at", [100.25, 107.0, 114.75])
def test_the_silence_before_a_heartbeat_begins_with_the_last_event_also_between_two_looks(came_at):
    client = SilentClient()
    writer = EventStreamWriter(client, lambda _: b"", heartbeat=(BEAT, 15.0))
    assert writer.tick(100.0) == 115.0
    client.bytes_out, client.last_byte_at = 20, came_at
    assert beat_at(writer, client, 115.0) == (came_at + 15.0, 2)


@pytest.mark.parametrize(
    "unsent", [(END, END), (token("a")[:20], token("a")[20:30])], ids=["withheld", "half an event"]
)
def test_what_is_not_sent_does_not_put_a_heartbeat_off(unsent):
    client = SilentClient()
    writer = EventStreamWriter(client, lambda _: b"", withheld=frozenset({"end"}), heartbeat=(BEAT, 15.0))
    assert writer.tick(100.0) == 115.0
    for came_at, data in zip((104.0, 109.0, 114.75), (token("a"), *unsent), strict=True):
        writer.feed(data)
        client.last_byte_at = came_at
    assert beat_at(writer, client, 115.0) == (119.0, 2)
    rest = token("a").removeprefix(b"".join(unsent))
    writer.feed(rest)
    client.last_byte_at = 120.0
    assert beat_at(writer, client, 119.25)[0] == 135.0


def beat_at(writer, client, now):
    """When the next heartbeat comes, and the number of looks up to then."""
    sent, looks, next_look = client.bytes_out, 0, now
    while client.bytes_out == sent:
        if now >= next_look:
            looks += 1
            next_look = writer.tick(now)
        now += TICK
    return now - TICK, looks


@pytest.mark.parametrize("heartbeat", ["0s", "400ms"])
async def test_no_heartbeat_is_sent_if_it_is_off_or_something_was_sent(start, connect, hurried, heartbeat):
    async def script(peer, _):
        peer.send(STREAM_HEAD)
        for _ in range(12):
            peer.chunk(token("a"))
            await time_passes(0.05)
        peer.chunk(METADATA + END)
        peer.chunk(b"")

    reply, _ = await relayed(start, connect, script, heartbeat=heartbeat)
    assert reply.body == token("a") * 12 + METADATA + END


async def test_no_heartbeat_inside_a_large_event(start, connect, hurried, reads):
    async def script(peer, _):
        first = STREAM_HEAD + chunk(TRACE[:300_000])
        peer.send(first)
        await reads.reach(len(first))
        await time_passes(0.2)
        peer.chunk(TRACE[300_000:])
        await time_passes(0.2)
        peer.chunk(METADATA + END)
        peer.chunk(b"")

    reply, _ = await relayed(start, connect, script, heartbeat="30ms")
    assert reply.body.startswith(TRACE + BEAT)
    assert reply.body.replace(BEAT, b"") == TRACE + METADATA + END


async def test_a_heartbeat_inside_a_large_event_that_is_withheld(start, connect, hurried, reads):
    async def script(peer, _):
        first = STREAM_HEAD + chunk(START + TRACE[:300_000])
        peer.send(first)
        await reads.reach(len(first))
        await time_passes(0.2)
        peer.chunk(TRACE[300_000:] + METADATA + END)
        peer.chunk(b"")

    route = {"heartbeat": "30ms", "events": {"withhold": ["agentFlowExecutedData"]}}
    reply, _ = await relayed(start, connect, script, **route)
    assert BEAT in reply.body
    assert reply.body.replace(BEAT, b"") == START + METADATA + END


@pytest.mark.parametrize("step", [1, 7, 1000, 65536])
async def test_withheld_events_are_gone_and_all_else_is_identical(start, connect, step):
    small = event("agentFlowExecutedData", "[1]")
    body = (
        small + START + OWN + token("a") + b":c\n\n" + small.replace(b"\n", b"\r\n") + METADATA + small + END
    )
    if step > 100:
        body += TRACE + START

    async def script(peer, _):
        stream(peer, *(body[at : at + step] for at in range(0, len(body), step)))

    withheld = {"withhold": ["agentFlowExecutedData", "custom:somethingNew"]}
    reply, line = await relayed(start, connect, script, events=withheld)
    left = START + token("a") + b":c\n\n" + METADATA + END + (START if step > 100 else b"")
    assert reply.body == left
    assert line["events"] == 8 + (2 if step > 100 else 0)
    assert line["bytes_out"] == len(left)


async def test_a_cut_inside_a_withheld_event_is_completed(start, connect, reads):
    async def script(peer, _):
        first = STREAM_HEAD + chunk(START + TRACE[:300_000])
        peer.send(first)
        await reads.reach(len(first))
        peer.fin()

    reply, line = await relayed(start, connect, script, events={"withhold": ["agentFlowExecutedData"]})
    assert reply.is_whole
    assert reply.body.startswith(START + b'message:\ndata:{"event":"error"')
    assert reply.body.endswith(END)
    assert line["outcome"] == "truncated"


async def test_a_withheld_end_is_an_end(start, connect):
    async def script(peer, _):
        stream(peer, WHOLE)

    reply, line = await relayed(start, connect, script, events={"withhold": ["end"]})
    assert reply.body == WHOLE.removesuffix(END)
    assert line["outcome"] == "ok"
