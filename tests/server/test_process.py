"""SIGTERM: readiness first, then the port, then the streams; every request gets a response."""

from __future__ import annotations

import asyncio
import json
import signal
import sys

from tests.harness.frames import END, METADATA
from tests.harness.gateway import FLOW
from tests.harness.held_stream import TOKEN, Held
from tests.harness.raw_client import request
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream

PATH = f"/api/v1/prediction/{FLOW}"
STREAM = {"question": "hi", "streaming": True, "chatId": "chat-1"}


async def streaming(wire):
    """Start a stream and read its first token."""
    wire.post(PATH, STREAM)
    assert (await wire.head())[0] == 200
    assert await wire.chunk() == TOKEN


async def test_readiness_turns_at_once_and_the_port_stays_open_for_the_delay(serve, connect):
    held = Held()
    held.may_finish.set()
    server = {"drain_delay": "60s", "drain": "60s"}
    async with RawUpstream(held) as upstream, serve(upstream.url, server=server) as gateway:
        assert (await gateway.ask("/readyz"))[:2] == (200, "ok\n")
        gateway.send_signal()
        assert (await gateway.until("draining"))["delay_s"] == 60
        assert (await gateway.ask("/readyz"))[:2] == (503, "draining\n")
        assert (await gateway.ask("/livez"))[0] == 200
        async with connect(gateway) as wire:
            wire.post(PATH, STREAM)
            reply = await wire.reply()
        assert (reply.status, reply.body) == (200, TOKEN + METADATA + END)
        gateway.send_signal()
        assert await gateway.ended() == (0, "")


async def test_the_port_closes_an_open_stream_finishes_and_a_kept_alive_connection_is_served_once_more(
    serve, connect
):
    held = Held()
    async with (
        RawUpstream(held) as upstream,
        serve(upstream.url, server={"drain": "60s"}) as gateway,
        connect(gateway) as wire,
        connect(gateway) as kept,
    ):
        await streaming(wire)
        kept.send(request("GET", "/api/v1/ping"))
        assert "connection" not in (await kept.reply()).fields
        gateway.send_signal(signal.SIGINT)
        await gateway.refuses_connections()
        kept.send(request("GET", "/api/v1/ping"))
        reply = await kept.reply()
        assert (reply.status, reply.body, reply.fields["connection"]) == (200, b"pong", "close")
        held.may_finish.set()
        assert await wire.rest() == METADATA + END
        assert await gateway.ended() == (0, "")
        assert upstream.aborts == []
    (line,) = [line for line in gateway.lines if line.get("endpoint") == "prediction"]
    assert (line["outcome"], line["status"]) == ("ok", 200)
    assert gateway.lines[-1]["event"] == "stopped"


async def test_a_remaining_stream_gets_one_error_and_one_end_and_what_waits_behind_it_503(serve, connect):
    async with (
        RawUpstream(Held()) as upstream,
        serve(upstream.url, server={"drain": "300ms"}) as gateway,
        connect(gateway) as wire,
        connect(gateway) as behind,
    ):
        await streaming(wire)
        behind.send(request("POST", PATH, json.dumps(STREAM).encode(), Expect="100-continue"))
        assert (await behind.head())[0] == 100  # the body is read now, then the conversation is locked
        gateway.send_signal()
        body, reply = await wire.rest(), await behind.reply()
        assert await wire.reader.read() == b""
        assert await gateway.ended() == (0, "")
        assert upstream.aborts == [f"/api/v1/chatmessage/abort/{FLOW}/chat-1"]
        assert len([seen for seen in upstream.seen if seen.target == PATH]) == 1
    assert body.startswith(b'message:\ndata:{"event":"error","data":"')
    assert body.endswith(END)
    assert body.count(b"\n\n") == 2
    assert (reply.status, reply.json()["code"]) == (503, "draining")
    (line,) = [line for line in gateway.lines if line["event"] == "request" and line["status"] == 200]
    assert (line["outcome"], line["error"]) == ("truncated", "draining")


async def test_a_half_sent_event_is_dropped_and_what_has_no_head_yet_gets_503(serve, connect):
    async def script(peer, seen):
        if seen.json()["question"] == "hi":
            peer.send(STREAM_HEAD)
            peer.chunk(TOKEN + b'message:\ndata:{"event":"tok')
        await asyncio.Event().wait()

    async with (
        RawUpstream(script) as upstream,
        serve(upstream.url, server={"drain": "300ms"}) as gateway,
        connect(gateway) as wire,
        connect(gateway) as stream,
        connect(gateway) as whole,
    ):
        await streaming(wire)
        for one, is_streaming in ((stream, True), (whole, False)):
            body = {"question": "wait", "streaming": is_streaming, "chatId": f"chat-{is_streaming}"}
            one.post(PATH, body)
        await upstream_has_seen(upstream, 3)
        gateway.send_signal()
        body = await wire.rest()
        replies = [await one.reply() for one in (stream, whole)]
        assert await gateway.ended() == (0, "")
    assert body.startswith(b'message:\ndata:{"event":"error","data":"')
    assert body.endswith(END)
    assert [(reply.status, reply.json()["code"]) for reply in replies] == 2 * [(503, "draining")]


async def test_a_run_without_a_client_is_aborted_at_once(serve, connect):
    held = Held()
    async with (
        RawUpstream(held) as upstream,
        serve(upstream.url, server={"drain": "60s"}, route={"on_disconnect": "ignore"}) as gateway,
    ):
        async with connect(gateway) as wire:
            await streaming(wire)
        while 'streams_active{route="chat"} 0.0' not in (await gateway.ask("/metrics"))[1]:
            pass
        assert upstream.aborts == []
        gateway.send_signal()
        await upstream.aborted.wait()
        held.may_finish.set()
        assert await gateway.ended() == (0, "")
    (line,) = [line for line in gateway.lines if line["event"] == "request"]
    assert line["outcome"] == "client_closed"


async def test_a_second_signal_ends_the_wait(serve, connect):
    async with (
        RawUpstream(Held()) as upstream,
        serve(upstream.url, server={"drain": "10m"}) as gateway,
        connect(gateway) as wire,
    ):
        await streaming(wire)
        gateway.send_signal()
        await gateway.refuses_connections()
        gateway.send_signal()
        assert (await wire.rest()).endswith(END)
        assert await gateway.ended() == (0, "")


async def upstream_has_seen(upstream, count=1):
    while len(upstream.seen) < count:
        await asyncio.sleep(0)


async def test_a_request_in_the_middle_of_its_body_may_finish(serve, connect):
    held = Held()
    held.may_finish.set()
    posted = request("POST", PATH, json.dumps(STREAM).encode(), Expect="100-continue")
    async with (
        RawUpstream(held) as upstream,
        serve(upstream.url, server={"drain": "60s"}) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(posted[:-5])
        assert (await wire.head())[0] == 100
        gateway.send_signal()
        await gateway.refuses_connections()
        while not any(line["event"] in ("stopped", "requests_left") for line in gateway.lines):
            try:
                async with asyncio.timeout(1.5):
                    await gateway.until("requests_left")
            except TimeoutError:
                break
        wire.send(posted[-5:])
        reply = await wire.reply()
        assert (reply.status, reply.body) == (200, TOKEN + METADATA + END)
        assert await gateway.ended() == (0, "")


async def test_threads_give_the_interpreter_back_to_the_loop_soon(start):
    """By default the loop waits 5 ms for it behind each socket, while a large body is read in a thread."""
    sys.setswitchinterval(0.005)
    async with start("http://127.0.0.1:1"):
        assert sys.getswitchinterval() <= 0.001
