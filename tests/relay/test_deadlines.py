"""A deadline passes: the client gets an error, the run is aborted, read for the grace period, closed, settled once."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness.clock import time_passes
from tests.harness.frames import (
    ABORT,
    ABORTED,
    ASK,
    ASK_JSON,
    END,
    METADATA,
    PATH,
    START,
    WHOLE,
    is_completed,
    metered,
    only,
    settled,
    stream,
    token,
)
from tests.harness.limit_process import lag
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream

HEARTBEAT = b":heartbeat\n\n"
LARGE = b'message:\ndata:{"event":"token","data":"' + b"x" * 300 * 1024


def timeouts(**limits):
    return {"upstreams": {"main": {"timeouts": limits}}}


class Silent:
    """Begins a response and sends nothing more until it is closed or, after the abort, `ending`."""

    def __init__(self, *begin, ending=b"", every=None):
        self.begin, self.ending, self.every = begin, ending, every
        self.upstream = None
        self.closed = asyncio.Event()

    async def __call__(self, peer, _):
        for piece in self.begin:
            peer.send(piece)
        beating = asyncio.create_task(self.beat(peer)) if self.every else None
        if self.ending:
            await self.upstream.aborted.wait()
            peer.chunk(self.ending)
            peer.chunk(b"")
        else:
            await peer.closed_by_gateway()
            self.closed.set()
        if beating:
            beating.cancel()

    async def beat(self, peer):
        while True:
            await time_passes(self.every)
            peer.chunk(HEARTBEAT)


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


async def ask(start, connect, script, ask=ASK, **sections):
    async with (
        RawUpstream(script) as upstream,
        start(upstream.url, **sections) as gateway,
        connect(gateway) as wire,
    ):
        script.upstream = upstream
        wire.post(PATH, ask)
        reply = await wire.reply()
        assert gateway.held_locks() == 1 or gateway.lines.of("request")
        line = await only(gateway)
        scrape = await metered(gateway)
        assert (
            scrape("requests_total", endpoint="prediction", outcome="timeout", status=str(line["status"]))
            == 1
        )
        assert scrape("aborts_total", result=line["abort"]) == 1
    assert upstream.aborts == [ABORT]
    assert line["outcome"] == "timeout"
    return reply, line


async def test_no_head(start, connect, hurried):
    hurried(0.0)
    script = Silent()
    reply, line = await ask(start, connect, script, **timeouts(head="100ms"))
    assert (reply.status, reply.json()["code"]) == (504, "upstream_timeout")
    assert (line["status"], line["abort"], line["error"]) == (504, "ran_on", "deadline: head")
    assert script.closed.is_set()


async def test_the_widget_gets_a_missing_head_as_a_stream(start, connect, hurried):
    hurried(0.0)
    async with RawUpstream(Silent()) as upstream, start(upstream.url, **timeouts(head="100ms")) as gateway:
        async with connect(gateway) as wire:
            wire.post(PATH, ASK, Accept="text/event-stream")
            reply = await wire.reply()
            line = await only(gateway)
    assert (reply.status, reply.fields["x-gateway-status"], line["status"]) == (200, "504", 504)
    assert is_completed(reply.body, b"")


async def test_a_late_head_is_read_and_metered_without_a_client(start, connect, hurried):
    hurried(60.0)

    async def script(peer, _):
        await upstream.aborted.wait()
        stream(peer, START + token("a") + ABORTED)

    async with RawUpstream(script) as upstream, start(upstream.url, **timeouts(head="100ms")) as gateway:
        async with connect(gateway) as wire:
            wire.post(PATH, ASK)
            reply = await wire.reply()
            line = await only(gateway)
    assert (reply.status, line["status"], line["outcome"], line["abort"]) == (504, 504, "timeout", "stopped")
    assert line["events"] == 4


@pytest.mark.parametrize("every", [None, 0.02])
async def test_no_first_event_but_perhaps_heartbeats(start, connect, hurried, every):
    hurried(0.0)
    script = Silent(STREAM_HEAD, every=every)
    reply, line = await ask(start, connect, script, **timeouts(first_event="150ms"))
    beats = reply.body.count(HEARTBEAT)
    assert reply.is_whole
    assert is_completed(reply.body, beats * HEARTBEAT)
    assert bool(beats) is bool(every)
    assert (line["status"], line["error"], line["events"]) == (200, "deadline: first_event", 0)


async def test_silence_in_mid_stream_though_we_send_heartbeats(start, connect, hurried):
    hurried(0.0)
    script = Silent(STREAM_HEAD, chunk(START + token("a")))
    route = {"route": {"heartbeat": "50ms"}}
    reply, line = await ask(start, connect, script, **timeouts(idle="300ms"), **route)
    body = reply.body.replace(b":\n\n", b"")
    assert reply.body.count(b":\n\n") > 1
    assert is_completed(body, START + token("a"))
    assert (line["error"], line["abort"]) == ("deadline: idle", "ran_on")


async def test_heartbeats_of_flowise_count_for_idle(start, connect, hurried):
    hurried(0.0)
    script = Silent(STREAM_HEAD, chunk(START), every=0.02)
    reply, line = await ask(start, connect, script, **timeouts(idle="200ms", total="600ms"))
    assert line["error"] == "deadline: total"
    assert is_completed(reply.body.replace(HEARTBEAT, b""), START)


@pytest.mark.parametrize("limit", ["idle", "total", "first_event"])
async def test_what_comes_within_the_grace_is_metered(start, connect, hurried, limit):
    hurried(60.0)
    begin = b"" if limit == "first_event" else chunk(START)
    script = Silent(STREAM_HEAD + begin, ending=token("a") + METADATA + END)
    reply, line = await ask(start, connect, script, **timeouts(**{limit: "400ms"}))
    assert is_completed(reply.body, START if begin else b"")
    assert (line["abort"], line["events"]) == ("ran_on", 4 if begin else 3)
    assert line["tokens_out"] == 1


async def test_a_flowise_that_goes_on_does_not_prolong_the_grace(start, connect, hurried):
    hurried(0.2)
    script = Silent(STREAM_HEAD, chunk(START), every=0.01)
    reply, line = await ask(start, connect, script, **timeouts(total="100ms"))
    assert script.closed.is_set()
    assert reply.is_whole
    assert line["abort"] == "ran_on"


async def test_a_new_silence_does_not_prolong_the_grace(start, connect, hurried):
    hurried(0.1)
    script = Silent(STREAM_HEAD, chunk(START))
    loop = asyncio.get_running_loop()
    async with lag() as lost:
        began = loop.time()
        await ask(start, connect, script, **timeouts(idle="2s"))
        assert loop.time() - began < 3.5 + lost.sum


async def test_a_deadline_inside_a_large_event_cuts(start, connect, hurried):
    hurried(0.0)
    script = Silent(STREAM_HEAD, chunk(LARGE))
    reply, line = await ask(start, connect, script, **timeouts(idle="100ms"))
    assert not reply.is_whole
    assert reply.body == LARGE
    assert line["status"] == 200


async def test_a_json_answer_has_a_total_only(start, connect, hurried):
    hurried(0.0)
    limits = timeouts(head="50ms", first_event="50ms", idle="50ms", total="300ms")
    reply, line = await ask(start, connect, Silent(), ASK_JSON, **limits)
    assert (reply.status, line["error"]) == (504, "deadline: total")


async def test_a_flow_that_does_not_stream_has_a_total_only(start, connect, hurried):
    hurried(0.0)
    script = Silent()
    limits = timeouts(head="50ms", first_event="50ms", idle="50ms", total="300ms")
    async with RawUpstream(script) as upstream:
        script.upstream, upstream.streamable = upstream, b'{"isStreaming":false}'
        async with start(upstream.url, **limits) as gateway, connect(gateway) as wire:
            while gateway.streamability() != {"chat": False}:
                await asyncio.sleep(0)
            wire.post(PATH, ASK)
            reply = await wire.reply()
            line = await only(gateway)
    assert upstream.seen[0].json()["streaming"] is False
    assert (reply.status, line["error"]) == (504, "deadline: total")


async def test_deadlines_go_on_without_a_client(start, connect, hurried):
    hurried(0.0)
    script = Silent(STREAM_HEAD, chunk(START))
    sections = timeouts(idle="200ms") | {"route": {"on_disconnect": "ignore"}}
    async with RawUpstream(script) as upstream, start(upstream.url, **sections) as gateway:
        async with connect(gateway) as wire:
            wire.post(PATH, ASK)
            await wire.head()
        line = await only(gateway)
    assert script.closed.is_set()
    assert upstream.aborts == [ABORT]
    assert (line["outcome"], line["abort"]) == ("client_closed", "ran_on")


async def test_a_client_that_leaves_after_the_deadline_changes_nothing(start, connect, hurried):
    hurried(60.0)
    go_on = asyncio.Event()

    async def script(peer, _):
        peer.send(STREAM_HEAD + chunk(START))
        await go_on.wait()
        peer.chunk(ABORTED)
        peer.chunk(b"")

    async with RawUpstream(script) as upstream, start(upstream.url, **timeouts(idle="100ms")) as gateway:
        async with connect(gateway) as wire:
            wire.post(PATH, ASK)
            assert is_completed((await wire.reply()).body, START)
        assert (await metered(gateway))("runs_active") == 1
        go_on.set()
        line = await only(gateway)
    assert (upstream.aborts, line["outcome"], line["abort"]) == ([ABORT], "timeout", "stopped")


async def test_the_connection_serves_on_while_the_old_run_is_still_read(start, connect, hurried):
    hurried(60.0)
    go_on = asyncio.Event()

    async def script(peer, seen):
        if seen.json()["question"] == "next":
            stream(peer, WHOLE)
            return
        peer.send(STREAM_HEAD + chunk(START))
        await go_on.wait()
        peer.chunk(ABORTED)
        peer.chunk(b"")

    async with RawUpstream(script) as upstream, start(upstream.url, **timeouts(idle="100ms")) as gateway:
        async with connect(gateway) as wire:
            wire.post(PATH, ASK)
            assert is_completed((await wire.reply()).body, START)
            wire.post(PATH, {**ASK, "chatId": "chat-2", "question": "next"})
            assert (await wire.reply()).body == WHOLE
            go_on.set()
            await settled(gateway, 2)


async def test_a_run_that_was_aborted_is_not_aborted_again_by_its_deadline(start, connect, hurried):
    hurried(0.0)
    script = Silent(STREAM_HEAD, chunk(START))
    async with RawUpstream(script) as upstream, start(upstream.url, **timeouts(idle="200ms")) as gateway:
        async with connect(gateway) as wire:
            wire.post(PATH, ASK)
            await wire.head()
        line = await only(gateway)
    assert script.closed.is_set()
    assert (upstream.aborts, line["outcome"], line["abort"]) == ([ABORT], "client_closed", "ran_on")


async def test_an_answer_that_is_no_stream_has_no_first_event(start, connect, hurried):
    async def script(peer, _):
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{")
        await time_passes(0.3)
        peer.send(b"}")

    async with (
        RawUpstream(script) as upstream,
        start(upstream.url, **timeouts(first_event="100ms")) as gateway,
    ):
        async with connect(gateway) as wire:
            wire.post(PATH, ASK)
            assert (await wire.reply()).body == b"{}"
            assert (await only(gateway))["outcome"] == "ok"
