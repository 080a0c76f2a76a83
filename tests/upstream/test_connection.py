"""One connection over loopback: the calls of its sink, and when it may be reused."""

from __future__ import annotations

import asyncio
import socket
import struct
from time import monotonic

import pytest

from gateway.errors import UpstreamBadReply, UpstreamUnreachable
from gateway.upstream import connection as connection_file
from gateway.upstream.connection import UnansweredError
from gateway.upstream.response_parser import BodyEnd
from tests.harness.raw_upstream import RawUpstream
from tests.harness.scripted_pool import GET, RecordingSink, closed, exchange, url_of

OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def sends(*pieces, fin=False):
    """A script that sends these, and perhaps hangs up."""

    async def script(peer, _):
        for piece in pieces:
            peer.send(piece)
            await peer.writer.drain()
        if fin:
            peer.fin()

    return script


@pytest.mark.parametrize(
    ("script", "body", "end", "is_reused"),
    [
        (sends(OK + b"Content-Length: 2\r\n\r\nab"), b"ab", BodyEnd.WHOLE, True),
        (sends(CHUNKED + b"1\r\na\r\n", b"1\r\nb\r\n0\r\n\r\n"), b"ab", BodyEnd.WHOLE, True),
        (sends(b"HTTP/1.1 103 x\r\nLink: a\r\n\r\n", EMPTY), b"", BodyEnd.WHOLE, True),
        (sends(b"HTTP/1.1 204 x\r\n\r\n"), b"", BodyEnd.WHOLE, True),
        (sends(OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nab"), b"ab", BodyEnd.WHOLE, False),
        (sends(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab"), b"ab", BodyEnd.WHOLE, False),
        (sends(OK + b"\r\nab", fin=True), b"ab", BodyEnd.CLOSED, False),
        (sends(OK + b"Content-Length: 3\r\n\r\nab", fin=True), b"ab", BodyEnd.CUT, False),
        (sends(CHUNKED + b"2\r\nab\r\n", fin=True), b"ab", BodyEnd.CUT, False),
        (sends(EMPTY + EMPTY), b"", BodyEnd.WHOLE, False),
        (sends(EMPTY + b"junk"), b"", BodyEnd.WHOLE, False),
    ],
)
async def test_the_calls_of_the_sink(script, body, end, is_reused, pool_to):
    async with RawUpstream(script) as upstream:
        pool = pool_to(upstream.url)
        connection, sink = await exchange(pool)
        assert (sink.body, sink.end) == (body, end)
        assert connection.is_closed is not is_reused
        assert (await pool.acquire() is connection) is is_reused


async def test_head_is_over_with_the_head_and_its_connection_dropped(pool_to):
    async with RawUpstream(sends(OK + b"Content-Length: 5\r\n\r\n")) as upstream:
        connection, sink = await exchange(pool_to(upstream.url), method="HEAD")
        assert (sink.head.get(b"content-length"), sink.body, sink.end) == (b"5", b"", BodyEnd.WHOLE)
        assert connection.is_closed


@pytest.mark.parametrize(
    ("script", "failure", "words"),
    [
        (
            sends(b"HTTP/1.1 101 x\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
            UpstreamBadReply,
            "switched protocols",
        ),
        (sends(b"HTTP/2.0 200 OK\r\n\r\n"), UpstreamBadReply, "not HTTP/1.x"),
        (sends(OK + b"Transfer-Encoding: gzip\r\n\r\nx"), UpstreamBadReply, "transfer coding"),
        (sends(b"noise\r\n\r\n"), UpstreamBadReply, "not valid HTTP"),
        (sends(CHUNKED + b"x\r\n"), UpstreamBadReply, "not valid HTTP"),  # the head was not passed on yet
        (sends(OK + b"X: 1\r\n" * 200 + b"\r\n"), UpstreamBadReply, "128 fields"),
        (sends(OK + b"X: " + b"a" * 70_000), UpstreamBadReply, "65536 bytes"),
        (sends(OK + b"X: 1\r\n", fin=True), UpstreamUnreachable, "before it answered"),
        (sends(fin=True), UnansweredError, "connection closed"),
    ],
)
async def test_why_there_is_no_head(script, failure, words, pool_to):
    async with RawUpstream(script) as upstream:
        pool = pool_to(upstream.url)
        connection, sink = await exchange(pool)
        assert type(sink.failure) is failure
        assert words in str(sink.failure)
        await closed(connection)
        assert repr(pool).endswith("0 open, 0 idle, 0 waiting>")


async def test_the_head_is_passed_on_before_the_body_came(pool_to):
    go_on = asyncio.Event()

    async def script(peer, _):
        peer.send(CHUNKED)
        await go_on.wait()
        peer.send(b"0\r\n\r\n")

    async with RawUpstream(script) as upstream:
        connection = await pool_to(upstream.url).acquire()
        sink = RecordingSink()
        connection.start("GET", GET, sink)
        await sink.begun.wait()
        assert connection.is_answered
        assert repr(connection) == "<Connection busy, 0 responses>"
        go_on.set()
        await sink.over.wait()


async def test_a_request_that_was_not_sent_whole_leaves_no_connection_to_reuse(pool_to):
    async with RawUpstream(sends(EMPTY)) as upstream:
        connection = await pool_to(upstream.url).acquire()
        sink = RecordingSink()
        connection.start("POST", GET, sink)
        await sink.over.wait()
        assert sink.end is BodyEnd.WHOLE
        assert connection.is_closed


@pytest.mark.parametrize("data", [b"junk", EMPTY, b"\r\n"])
async def test_any_byte_on_an_idle_connection_closes_it(data, pool_to):
    is_idle = asyncio.Event()

    async def script(peer, _):
        peer.send(EMPTY)
        await is_idle.wait()
        peer.send(data)
        await peer.closed_by_gateway()

    async with RawUpstream(script) as upstream:
        pool = pool_to(upstream.url)
        connection, _ = await exchange(pool)
        assert repr(connection) == "<Connection idle, 1 responses>"
        is_idle.set()
        await closed(connection)
        assert repr(connection) == "<Connection closed, 1 responses>"
        assert repr(pool).endswith("0 open, 0 idle, 0 waiting>")


@pytest.mark.parametrize(
    ("field", "seconds"),
    [
        (b"", 4.0),
        (b"Keep-Alive: timeout=5\r\n", 4.0),
        (b"Keep-Alive: max=100, Timeout=72\r\n", 71.0),
        (b"Keep-Alive: timeout=2\r\n", 1.0),
        (b"Keep-Alive: timeout=soon\r\n", 4.0),
        (b"Keep-Alive: timeout=-5\r\n", 4.0),
        (b"Keep-Alive: timeout=9999999999\r\n", 4.0),
        (b"Keep-Alive: timeout=1\r\n", None),
        (b"Keep-Alive: timeout=0\r\n", None),
    ],
)
async def test_an_idle_connection_is_dropped_a_second_before_the_server_does(
    field, seconds, monkeypatch, pool_to
):
    now = monotonic()
    monkeypatch.setattr(connection_file, "monotonic", lambda: now)
    async with RawUpstream(sends(OK + field + b"Content-Length: 0\r\n\r\n")) as upstream:
        pool = pool_to(upstream.url)
        connection, _ = await exchange(pool)
        if seconds is None:
            assert connection.is_closed
            return
        pool.sweep(now + seconds - 0.01)
        assert not connection.is_closed
        pool.sweep(now + seconds)
        assert connection.is_closed


POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "data", "sent_back", "failure"),
    [
        ("GET", GET, b"", UnansweredError),
        ("GET", GET, b"H", UpstreamUnreachable),
        ("POST", POST, b"", UpstreamUnreachable),
        ("POST", POST, b"H", UpstreamUnreachable),
    ],
)
async def test_only_a_get_that_brought_no_byte_back_is_stale(pool_to, method, data, sent_back, failure):
    async def script(peer, _):
        if len(upstream.seen) == 1:
            peer.send(EMPTY)
        else:
            peer.send(sent_back)
            await peer.writer.drain()
            peer.fin()

    async with RawUpstream(script) as upstream:
        pool = pool_to(upstream.url)
        first, _ = await exchange(pool)
        second, sink = await exchange(pool, data, method)
        assert second is first
        assert isinstance(sink.failure, failure)


async def test_writing_waits_while_flowise_reads_nothing_and_ends_with_the_connection(pool_to):
    may_read = asyncio.Event()
    server = await asyncio.start_server(
        lambda reader, writer: _hold(reader, writer, may_read), "127.0.0.1", 0, limit=1
    )
    async with server:
        connection = await pool_to(url_of(server.sockets[0])).acquire()
        sink = RecordingSink()
        connection.start("POST", b"a" * 32_000_000, sink)
        draining = asyncio.create_task(connection.drain())
        await asyncio.sleep(0)
        assert not draining.done()
        may_read.set()
        await sink.over.wait()
        await draining
        await connection.drain()
        connection.write(b"more")  # nothing happens
        assert isinstance(sink.failure, UpstreamUnreachable)


async def _hold(reader, writer, may_read):
    await may_read.wait()
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_a_fault_behind_the_head_cuts_the_body(pool_to):
    is_begun = asyncio.Event()

    async def script(peer, _):
        peer.send(CHUNKED + b"2\r\nab\r\n")
        await is_begun.wait()
        peer.send(b"x\r\n")
        await peer.closed_by_gateway()

    async with RawUpstream(script) as upstream:
        connection = await pool_to(upstream.url).acquire()
        sink = RecordingSink()
        connection.start("GET", GET, sink)
        connection.finish_request()
        await sink.begun.wait()
        is_begun.set()
        await sink.over.wait()
        assert (sink.body, sink.end) == (b"ab", BodyEnd.CUT)
        await closed(connection)


async def test_while_reading_pauses_nothing_comes_and_afterwards_all(pool_to):
    is_paused = asyncio.Event()

    async def script(peer, _):
        if is_paused.is_set():
            peer.send(EMPTY)
            return
        peer.send(CHUNKED)
        await is_paused.wait()
        peer.send(b"2\r\nab\r\n0\r\n\r\n")
        await peer.writer.drain()

    async with RawUpstream(script) as upstream:
        pool = pool_to(upstream.url)
        connection = await pool.acquire()
        sink = RecordingSink()
        connection.start("GET", GET, sink)
        connection.finish_request()
        await sink.begun.wait()
        connection.pause_reading()
        is_paused.set()
        await exchange(pool)  # by now a connection that is read would have been
        assert (sink.body, sink.end) == (b"", None)
        connection.resume_reading()
        await sink.over.wait()
        assert (sink.body, sink.end) == (b"ab", BodyEnd.WHOLE)


async def test_nagle_is_off(pool_to):
    async with RawUpstream(sends(EMPTY)) as upstream:
        connection = await pool_to(upstream.url).acquire()
        sock = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        connection.close()


async def test_a_sink_that_closes_with_the_head_hears_no_more(pool_to):
    class Closing(RecordingSink):
        def on_head(self, head):
            super().on_head(head)
            connection.close()

    async with RawUpstream(sends(OK + b"Content-Length: 2\r\n\r\nab")) as upstream:
        connection = await pool_to(upstream.url).acquire()
        sink = Closing()
        connection.start("GET", GET, sink)
        connection.finish_request()
        await sink.begun.wait()
        await closed(connection)
        assert (sink.body, sink.end, sink.failure) == (b"", None, None)
