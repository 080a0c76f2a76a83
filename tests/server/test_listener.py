"""Client connections: `Expect: 100-continue`, slow, too many, closed."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import pytest
from aiohttp import web

from gateway.server import listener
from tests.harness import bounds
from tests.harness.clock import until
from tests.harness.raw_client import request
from tests.harness.surface import ANSWER, PREDICT, QUESTION, answering, ask


def expecting(**headers):
    fields = {"Content_Length": "17", "Content_Type": "application/json", "Expect": "100-continue"}
    return request("POST", PREDICT, b"", **{**fields, **headers})


async def test_an_accepted_request_gets_100_continue(start, connect):
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(expecting())
        assert await wire.head() == (100, {})
        wire.send(QUESTION)
        reply = await wire.reply()
        wire.send(request("GET", "/api/v1/ping"))
        assert (await wire.reply()).body == b"pong"
    assert (reply.status, reply.body) == (200, ANSWER)
    assert upstream.seen[0].body == QUESTION
    assert "expect" not in upstream.seen[0].fields


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Authorization": "fgw_x"}, 401), ({"Content_Length": "9999999"}, 413), ({"Content_Type": "text/plain"}, 400),
     ({"Content_Encoding": "gzip"}, 415), ({"Expect": "200-ok"}, 400)],
)  # fmt: skip
async def test_a_refused_request_gets_no_100_continue(headers, status, start, connect):
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(expecting(**headers))
        assert (await wire.head())[0] == status
    assert upstream.seen == []


CHUNKS = b"".join(b"1\r\n%b\r\n" % QUESTION[at : at + 1] for at in range(len(QUESTION))) + b"0\r\n\r\n"
BODIES = {  # what is sent after the head, with it and then
    "in one piece": (QUESTION, b"", {"Content_Length": str(len(QUESTION))}),
    "in two": (QUESTION[:5], QUESTION[5:], {"Content_Length": str(len(QUESTION))}),
    "all behind": (b"", QUESTION, {"Content_Length": str(len(QUESTION))}),
    "in many pieces at once": (CHUNKS, b"", {"Transfer_Encoding": "chunked"}),
    "in many pieces behind": (CHUNKS[:9], CHUNKS[9:], {"Transfer_Encoding": "chunked"}),
}


@pytest.mark.parametrize("kind", BODIES)
async def test_a_body_reaches_flowise_however_it_came_and_keeps_little(start, connect, kind):
    first, then, framing = BODIES[kind]
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        for _ in range(2):
            wire.send(request("POST", PREDICT, b"", Content_Type="application/json", **framing) + first)
            if then:
                await until(lambda: any(one._is_answering for one in gateway.connections()))
                wire.send(then)
            assert (await wire.reply()).body == ANSWER
        (connection,) = gateway.connections()
        kept = sys.getsizeof(connection._content._buffer)
    assert [one.body for one in upstream.seen if one.method == "POST"] == [QUESTION, QUESTION]
    assert kept < 100 or kind != "in one piece"


async def test_a_body_that_pauses_is_refused(start, connect):
    server = {"timeouts": {"body_idle": "100ms"}}
    async with (
        answering() as upstream,
        start(upstream.url, server=server) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(expecting(Expect=None) + QUESTION[:5])
        reply = await wire.reply()
        assert await wire.reader.read() == b""
    assert (reply.status, reply.json()["code"]) == (400, "bad_request")
    assert "0.1 s" in reply.json()["message"]
    assert upstream.seen == []


@pytest.mark.parametrize("sent", [b"", b"GET /api/v1/pi", b"GET /api/v1/ping HTTP/1.1\r\nX-A: b\r\n"])
async def test_a_connection_without_a_head_is_closed(sent, start, connect):
    server = {"timeouts": {"headers": "200ms"}}
    async with (
        answering() as upstream,
        start(upstream.url, server=server) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(sent)
        with contextlib.suppress(ConnectionError):
            assert await wire.reader.read() == b""
        (line,) = await gateway.lines.until("connection_closed")
    assert (line["reason"], line["client"]) == ("slow_head", "127.0.0.1")


async def test_a_connection_with_an_incomplete_second_head_is_closed(start, connect):
    server = {"timeouts": {"headers": "200ms"}}
    async with (
        answering() as upstream,
        start(upstream.url, server=server) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(request("GET", "/api/v1/ping"))
        await wire.reply()
        wire.send(b"GET ")
        (line,) = await gateway.lines.until("connection_closed")
    assert line["reason"] == "slow_head"


async def test_an_idle_connection_is_closed_without_a_log_line(start, connect):
    server = {"timeouts": {"headers": "50ms", "keep_alive": "300ms"}}
    async with (
        answering() as upstream,
        start(upstream.url, server=server) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(request("GET", "/api/v1/ping"))
        await wire.reply()
        assert await wire.reader.read() == b""
    assert gateway.lines.of("connection_closed") == []


@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_address"])
async def test_excess_connections_are_closed(limit, start, connect):
    async with answering() as upstream, start(upstream.url, server={limit: 2}) as gateway:
        async with connect(gateway) as first, connect(gateway) as second:
            for wire in (first, second):
                wire.send(request("GET", "/api/v1/ping"))
                assert (await wire.reply()).body == b"pong"
            async with connect(gateway):
                (line,) = await gateway.lines.until("connection_closed")
            first.send(request("GET", "/api/v1/ping"))
            assert (await first.reply()).body == b"pong"
        assert line["reason"] == limit


async def test_a_trusted_proxy_may_have_many_connections(start, connect):
    server = {"max_connections_per_address": 1, "trusted_proxies": ["127.0.0.1/32"]}
    async with answering() as upstream, start(upstream.url, server=server) as gateway:
        async with connect(gateway) as first, connect(gateway) as second:
            for wire in (first, second):
                wire.send(request("GET", "/api/v1/ping"))
                assert (await wire.reply()).body == b"pong"


async def test_all_bodies_together_are_bounded(start, connect):
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def script(peer, _):
        reached.set()
        await go_on.wait()
        peer.answer(ANSWER)

    large = b'{"question":"hi","x":"%b"}' % (b"a" * 600)
    upstream = answering()
    upstream._script = script
    async with upstream, start(upstream.url, server={"buffered_bodies": "1000B"}) as gateway:
        async with connect(gateway) as first:
            first.send(request("POST", PREDICT, large))
            await reached.wait()
            refused = await ask(connect, gateway, body=large)
            go_on.set()
            assert (await first.reply()).status == 200
        again = await ask(connect, gateway, body=large)
    assert (refused.status, refused.json()["code"]) == (503, "overloaded")
    assert again.status == 200


async def test_a_half_closed_client_counts_as_disconnected(start, connect):
    async def script(peer, _):
        await peer.closed_by_gateway()

    upstream = answering()
    upstream._script = script
    settings = {"route": {"on_disconnect": "ignore"}}
    async with upstream, start(upstream.url, **settings) as gateway, connect(gateway) as wire:
        wire.send(request("GET", PREDICT.replace("prediction", "chatflows-streaming")))
        wire.writer.write_eof()
        assert await wire.reader.read() == b""
        line = await gateway.lines.request()
    assert (line["outcome"], line["status"]) == ("client_closed", 499)


@pytest.mark.parametrize("linger", [2 * bounds.TEST, 0.01], ids=["long", "short"])
async def test_a_refused_upload_is_not_read(linger, start, connect, monkeypatch):
    """The response does not wait for its rest, which is read for a while, so that the client can read the response."""
    monkeypatch.setattr(listener, "LINGER", linger)
    head = request("POST", PREDICT, b"", Content_Length="99999999", Content_Type="application/json")
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(head)
        assert (await wire.reply()).status == 413
        assert linger > 1 or await wire.reader.read() == b""
    assert upstream.seen == []


async def test_a_bug_after_the_head_writes_no_second_head(start, connect):
    async def broken(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        raise ValueError

    async with answering() as upstream, start(upstream.url) as gateway:
        gateway.listener.request_handler = broken
        async with connect(gateway) as wire:
            wire.send(request("GET", "/api/v1/ping"))
            everything = await wire.reader.read()
    assert everything.startswith(b"HTTP/1.1 200 OK")
    assert everything.count(b"HTTP/1.1 ") == 1
    assert everything.endswith(b"5\r\nbegun\r\n")
