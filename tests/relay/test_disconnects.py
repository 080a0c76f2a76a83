"""Clients that leave: the run is aborted once, read to its end, metered, and holds its conversation until then."""

from __future__ import annotations

import asyncio

import pytest

from gateway.causes import REFUSED
from gateway.errors import UpstreamUnreachable
from gateway.upstream.upstream import Upstream
from tests.harness import bounds
from tests.harness.clock import until
from tests.harness.frames import (
    ABORT,
    ABORTED,
    ASK,
    ASK_JSON,
    END,
    METADATA,
    PATH,
    START,
    metered,
    only,
    settled,
    stream,
    token,
)
from tests.harness.held_stream import Held
from tests.harness.raw_client import Wire
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream

USAGE = b'message:\ndata:{"event":"usageMetadata","data":{"input_tokens":7,"output_tokens":3}}\n\n'
WAYS = ["fin", "rst", "half close"]
# What Flowise does after the abort, and the result that is recorded.
ENDINGS = {"stopped": ABORTED, "ran_on": token("c") + METADATA + END}


async def leave(wire, way):
    if way == "fin":
        await wire.close()
    elif way == "rst":
        wire.reset()
    else:
        wire.writer.write_eof()


async def held(gateway):
    """The run goes on without its client: no line yet, its turn taken."""
    while (scrape := await metered(gateway))("streams_active"):
        pass
    assert scrape("runs_active") == 1
    assert gateway.held_locks() == 1
    assert gateway.lines.of("request") == []


class Script:
    """A stream that stops after its first token until `go_on` is set, and then ends in a given way."""

    def __init__(self, ending=ABORTED, head=STREAM_HEAD, before=START + token("a")):
        self.asked, self.go_on, self.upstream_closed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.ending, self.head, self.before = ending, head, before

    async def __call__(self, peer, seen):
        if "next" in seen.json()["question"]:
            stream(peer, START + token("n") + METADATA + END)
            return
        if self.head:
            peer.send(self.head)
            peer.chunk(self.before)
        self.asked.set()
        await self.go_on.wait()
        if not self.head:
            peer.send(STREAM_HEAD)
        if self.ending == "fin":
            peer.fin()
            return
        peer.chunk(USAGE + self.ending)
        peer.chunk(b"")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("result", ENDINGS)
async def test_in_mid_stream(start, connect, way, result):
    script = Script(ENDINGS[result])
    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, ASK)
        await wire.head()
        await wire.until(b'"a"')
        await leave(wire, way)
        await upstream.aborted.wait()
        await held(gateway)
        script.go_on.set()
        line = await only(gateway)
        scrape = await metered(gateway)
        async with connect(gateway) as other:
            other.post(PATH, {**ASK, "question": "next"})
            assert b'"n"' in (await other.reply()).body
        assert upstream.connections == 1  # the drained connection was used again
    assert upstream.aborts == [ABORT]
    assert (line["outcome"], line["status"], line["abort"]) == ("client_closed", 200, result)
    assert (line["tokens_in"], line["tokens_out"], line["token_source"]) == (7, 3, "reported")
    assert line["events"] == (START + token("a") + USAGE + ENDINGS[result]).count(b"\n\n")
    assert line["bytes_out"] == len(START + token("a"))
    assert scrape("aborts_total", result=result) == 1
    assert scrape("tokens_total", type="output", source="reported") == 3
    assert scrape("bytes_total", direction="in") == len(START + token("a") + USAGE + ENDINGS[result])


@pytest.mark.parametrize("way", WAYS)
async def test_before_the_head(start, connect, way):
    script = Script(head=b"")
    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, ASK)
        await script.asked.wait()
        await leave(wire, way)
        await upstream.aborted.wait()
        await held(gateway)
        script.go_on.set()
        line = await only(gateway)
        assert (await metered(gateway))(
            "requests_total", endpoint="prediction", outcome="client_closed", status="499"
        ) == 1
    assert upstream.aborts == [ABORT]
    assert (line["outcome"], line["status"], line["abort"]) == ("client_closed", 499, "stopped")
    assert (line["tokens_in"], line["tokens_out"], line["bytes_out"]) == (7, 3, 0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("result", ["stopped", "ran_on"])
async def test_a_json_answer_without_a_client(start, connect, way, result):
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def script(peer, _):
        asked.set()
        await go_on.wait()
        if result == "ran_on":
            peer.answer(b'{"text":"12345678"}')
        else:
            peer.answer(
                b'{"statusCode":500,"success":false,"message":"Aborted"}', "500 Internal Server Error"
            )

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, ASK_JSON)
        await asked.wait()
        await leave(wire, way)
        await upstream.aborted.wait()
        await held(gateway)
        go_on.set()
        line = await only(gateway)
    assert upstream.aborts == [ABORT]
    assert (line["outcome"], line["status"], line["abort"]) == ("client_closed", 499, result)
    assert line["tokens_out"] == (2 if result == "ran_on" else 0)  # a failure costs its question


async def test_a_json_run_without_conversation_cannot_be_aborted(start, connect):
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def script(peer, _):
        asked.set()
        await go_on.wait()
        peer.answer(b'{"text":"a"}')

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, {"question": "hi"})
        await asked.wait()
        await wire.close()
        while not gateway.background_tasks():
            await asyncio.sleep(0)
        go_on.set()
        line = await only(gateway)
    assert (line["abort"], upstream.aborts) == ("failed", [])


@pytest.mark.parametrize("way", WAYS)
async def test_while_waiting_for_the_conversation(start, connect, way):
    script = Script(token("b") + METADATA + END)
    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as first:
        first.post(PATH, ASK)
        await first.head()
        async with connect(gateway) as second:
            second.post(PATH, {**ASK, "question": "next"})
            await someone_waits(gateway)
            await leave(second, way)
            (line,) = await gateway.lines.until("request")
        assert (line["outcome"], line["status"], line["abort"]) == ("client_closed", 499, None)
        async with connect(gateway) as third:  # the place of the one that left is free
            third.post(PATH, {**ASK, "question": "next"})
            await someone_waits(gateway)
            script.go_on.set()
            assert b'"n"' in (await third.reply()).body
        await settled(gateway, 3)
        scrape = await metered(gateway)
    assert upstream.aborts == []
    assert len(upstream.seen) == 2
    assert scrape("conversation_waits_total", result="client_closed") == 1
    assert scrape("conversation_waits_total", result="got_turn") == 1


async def someone_waits(gateway):
    while not gateway.has_waiting_request():
        await asyncio.sleep(0)


@pytest.mark.parametrize("way", WAYS)
async def test_while_much_is_unread(start, way):
    sent = asyncio.Event()
    size = 6 * 1024 * 1024

    async def script(peer, _):
        peer.send(STREAM_HEAD)
        peer.chunk(START + token("a"))
        for _ in range(size // 65536):
            peer.chunk(token("x" * 65500))
        sent.set()
        await upstream.aborted.wait()
        await peer.writer.drain()
        peer.chunk(USAGE + ABORTED)
        peer.chunk(b"")

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
        async with await Wire.to(gateway.host, gateway.port) as wire:
            wire.post(PATH, ASK)
            await wire.head()
            wire.writer.transport.pause_reading()
            await sent.wait()
            await is_paused(gateway)
            await leave(wire, way)
            await upstream.aborted.wait()
            line = await only(gateway)
    assert upstream.aborts == [ABORT]
    assert (line["outcome"], line["abort"], line["tokens_out"]) == ("client_closed", "stopped", 3)
    assert line["events"] == 2 + size // 65536 + 3


async def is_paused(gateway):
    """Wait until the gateway has stopped reading its upstream."""
    (run,) = gateway.open_calls()
    while not run.call.deadlines.is_paused:
        await asyncio.sleep(0)


async def test_an_abort_that_flowise_refuses_has_failed(start, connect, monkeypatch):
    asked_to_abort = asyncio.Event()

    async def unreachable(_, method, *__):
        if method == "PUT":
            asked_to_abort.set()
        raise UpstreamUnreachable("No.", REFUSED)

    monkeypatch.setattr(Upstream, "request", unreachable)
    script = Script("fin")
    async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
        async with connect(gateway) as wire:
            wire.post(PATH, ASK)
            await wire.head()
            await wire.until(b'"a"')
        await asked_to_abort.wait()
        script.go_on.set()
        line = await only(gateway)
        assert (await metered(gateway))("aborts_total", result="failed") == 1
    assert (line["outcome"], line["abort"], upstream.aborts) == ("client_closed", "failed", [])
    assert line["error"] == "the client left; abort: upstream_unreachable: No. (connection refused)"


@pytest.mark.parametrize("ask", [ASK, ASK_JSON])
async def test_a_route_may_let_runs_go_on(start, connect, ask):
    script = Script(ENDINGS["ran_on"], head=STREAM_HEAD if "streaming" in ask else b"")
    route = {"on_disconnect": "ignore"}
    async with RawUpstream(script) as upstream, start(upstream.url, route=route) as gateway:
        async with connect(gateway) as wire:
            wire.post(PATH, ask)
            await script.asked.wait()
        async with connect(gateway) as other:
            other.post(PATH, {**ASK, "question": "next"})
            await someone_waits(gateway)
            assert gateway.lines.of("request") == []
            script.go_on.set()
            assert b'"n"' in (await other.reply()).body
        line, _ = await settled(gateway, 2)
    assert upstream.aborts == []
    assert (line["outcome"], line["abort"], line["tokens_out"]) == ("client_closed", None, 3)


async def test_a_client_that_leaves_between_the_requests_is_no_request(start, connect):
    async def script(peer, _):
        stream(peer, START + token("a") + METADATA + END)

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
        async with connect(gateway) as wire:
            wire.post(PATH, ASK)
            await wire.reply()
        line = await only(gateway)
    assert (line["outcome"], upstream.aborts) == ("ok", [])


@pytest.mark.timeout(2 * bounds.TEST)
async def test_an_abort_that_came_before_flowise_knew_the_run_is_repeated(start, connect):
    """As when the client leaves within milliseconds: the first one finds nothing (capture abort-idle)."""
    held = Held(START + token("a"), ABORTED)
    async with RawUpstream(held) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, ASK)
        await wire.head()
        wire.reset()
        await until(lambda: len(upstream.aborts) == 2)
        held.may_finish.set()
        line = await only(gateway)
    assert upstream.aborts == [ABORT, ABORT]
    assert (line["outcome"], line["abort"]) == ("client_closed", "stopped")
