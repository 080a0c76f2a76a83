"""The ends of a stream: complete, broken off, client gone, deadline passed."""

from __future__ import annotations

import asyncio

from gateway import app
from tests.harness.clock import until
from tests.harness.gateway import FLOW
from tests.harness.raw_client import request
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream

PATH = f"/api/v1/prediction/{FLOW}"
ASK = {"question": "hi", "streaming": True, "chatId": "chat-1"}


def event(name, data='""'):
    return f'message:\ndata:{{"event":"{name}","data":{data}}}\n\n'.encode()


METADATA, END = event("metadata", '{"chatId":"chat-1"}'), event("end", '"[DONE]"')


async def test_each_event_leaves_before_the_next_one_is_sent(start, connect):
    seen_by_client = asyncio.Queue()

    async def script(peer, _):
        peer.send(STREAM_HEAD)
        for number in range(1000):
            peer.chunk(event("token", f'"{number} "'))
            assert await seen_by_client.get() == number
        peer.chunk(METADATA + END)
        peer.chunk(b"")

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, ASK)
        assert (await wire.head())[0] == 200
        for number in range(1000):
            assert await wire.chunk() == event("token", f'"{number} "')
            seen_by_client.put_nowait(number)
        assert await wire.chunk() == METADATA + END
        assert await wire.chunk() == b""
        line = await gateway.lines.request()
    assert (line["outcome"], line["status"], line["events"]) == ("ok", 200, 1002)


async def test_a_cut_upstream_is_completed_with_error_and_end(start, connect):
    async def script(peer, _):
        peer.send(STREAM_HEAD)
        peer.chunk(event("token", '"a"') + b'message:\ndata:{"event":"tok')
        peer.fin()

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, ASK)
        reply = await wire.reply()
        line = await gateway.lines.request()
    assert reply.is_whole
    assert reply.body.startswith(event("token", '"a"') + b'message:\ndata:{"event":"error","data":"')
    assert reply.body.endswith(END)
    assert b"tok" + b"message" not in reply.body
    assert line["outcome"] == "truncated"


async def test_a_client_that_leaves_has_its_run_aborted_and_metered(start, connect):
    go_on = asyncio.Event()

    async def script(peer, _):
        peer.send(STREAM_HEAD)
        peer.chunk(event("token", '"a"'))
        await go_on.wait()
        peer.chunk(event("token", '"b"') + event("error", '"aborted"') + END)
        peer.chunk(b"")

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
        async with connect(gateway) as wire:
            wire.post(PATH, ASK)
            await wire.head()
            await wire.until(b'"a"')
        await upstream.aborted.wait()
        assert gateway.lines.of("request") == []
        assert (await gateway.metrics())['flowise_gateway_runs_active{route="chat"}'] == 1
        go_on.set()
        line = await gateway.lines.request()
        metrics = await gateway.metrics()
    assert upstream.aborts == [f"/api/v1/chatmessage/abort/{FLOW}/chat-1"]
    assert (line["outcome"], line["abort"], line["events"], line["status"]) == (
        "client_closed",
        "stopped",
        4,
        200,
    )
    assert metrics['flowise_gateway_runs_active{route="chat"}'] == 0
    assert metrics['flowise_gateway_streams_active{route="chat"}'] == 0
    assert metrics['flowise_gateway_aborts_total{result="stopped",route="chat"}'] == 1


async def test_a_flowise_that_never_answers_is_a_504_and_an_abort(start, connect):
    async def script(peer, _):
        await peer.closed_by_gateway()

    timeouts = {"upstreams": {"main": {"timeouts": {"head": "300ms"}}}}
    async with (
        RawUpstream(script) as upstream,
        start(upstream.url, **timeouts) as gateway,
        connect(gateway) as wire,
    ):
        wire.post(PATH, ASK)
        reply = await wire.reply()
        assert reply.status == 504
        assert reply.json()["code"] == "upstream_timeout"
        await upstream.aborted.wait()


async def test_second_request_on_the_same_connection(start, connect):
    async def script(peer, seen):
        peer.send(STREAM_HEAD)
        peer.chunk(event("token", '"%s"' % seen.json()["question"]) + METADATA + END)
        peer.chunk(b"")

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        for question in "abc":
            wire.post(PATH, {**ASK, "question": question})
            reply = await wire.reply()
            assert f'"{question}"'.encode() in reply.body
        await gateway.lines.until("request", 3)
    assert upstream.connections == 1


async def test_a_small_request_that_the_drain_ends_is_no_disconnect(start, connect, monkeypatch):
    monkeypatch.setattr(app, "SETTLE_WITHIN", 0.2)  # for the question to Flowise, which has no answer

    async def script(peer, _):
        await peer.closed_by_gateway()

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(request("GET", f"/api/v1/chatflows-uploads/{FLOW}"))
        await until(lambda: upstream.seen)
        gateway.process.stop_now()
        reply = await wire.reply()
        line = await gateway.lines.request()
    assert (reply.status, reply.json()["code"]) == (503, "draining")
    assert (line["status"], line["outcome"]) == (503, "refused")


async def test_an_abort_that_hangs_at_shutdown_does_not_lose_the_settlement(start, connect, monkeypatch):
    monkeypatch.setattr(app, "SETTLE_WITHIN", 0.2)

    async def script(peer, _):
        peer.send(STREAM_HEAD)
        peer.chunk(event("token", '"%s"' % ("a" * 400)))
        await peer.closed_by_gateway()

    async with RawUpstream(script) as upstream:
        upstream.may_answer_abort.clear()
        async with start(upstream.url) as gateway, connect(gateway) as wire:
            wire.post(PATH, ASK)
            await wire.head()
            await wire.until(b"aaa")
            gateway.process.stop_now()
            await wire.until(b'"end"')
        line = await gateway.lines.request()
    assert (line["outcome"], line["tokens_out"], line["token_source"]) == ("truncated", 100, "estimated")
