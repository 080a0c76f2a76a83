"""One call over loopback: the head, the body, a client that leaves, and the single report of the end."""

from __future__ import annotations

import asyncio
import math
from time import monotonic

import pytest

from gateway.errors import (
    BadRequest,
    Draining,
    Overloaded,
    UpstreamBadReply,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.relay.call import UpstreamCall
from gateway.relay.deadlines import Deadline
from gateway.upstream.response_parser import BodyEnd
from tests.harness.raw_upstream import Peer, RawUpstream
from tests.harness.scripted_pool import (
    OnlyPool,
    RecordingListener,
    RecordingWriter,
    ask,
    deadlines,
    exchange,
    send,
    url_of,
)

EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def listener():
    return RecordingListener()


@pytest.fixture
def call(listener):
    return UpstreamCall(listener, deadlines(), OnlyPool(None))


async def pieces(*parts):
    for part in parts:
        yield part


async def test_a_whole_reply(call, listener, pool_to):
    async def script(peer, _):
        peer.answer(b"hello")

    async with RawUpstream(script) as upstream:
        head = await send(call, pool_to(upstream.url), ask(b"question"))
        writer = RecordingWriter()
        call.attach(writer)
        await listener.over.wait()
        assert upstream.seen[0].body == b"question"
        assert upstream.seen[0].fields["content-length"] == "8"
    assert (head.status, writer.body, writer.end_) == (200, b"hello", BodyEnd.WHOLE)
    assert (listener.heads, listener.ends, listener.left, call.bytes_in) == ([200], [BodyEnd.WHOLE], 0, 5)


async def test_a_body_of_pieces_is_chunked(call, listener, pool_to):
    async def script(peer, _):
        peer.send(EMPTY)

    async with RawUpstream(script) as upstream:
        await send(call, pool_to(upstream.url), ask(pieces(b"a" * 20, b"", b"b")))
        assert upstream.seen[0].body == b"a" * 20 + b"b"
        assert "content-length" not in upstream.seen[0].fields
    assert listener.ends == [BodyEnd.WHOLE]


async def test_get_has_no_length(call, pool_to):
    async def script(peer, _):
        peer.send(EMPTY)

    async with RawUpstream(script) as upstream:
        await send(call, pool_to(upstream.url), ask(b"", "GET"))
        assert upstream.seen[0].head == b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_a_reply_before_the_end_of_the_upload_ends_the_upload(call, listener, pool_to):
    is_answered, go_on = asyncio.Event(), asyncio.Event()

    async def refuse_at_once(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 1\r\n\r\n")
        await go_on.wait()
        writer.write(b"x")
        await Peer(reader, writer).closed_by_gateway()
        writer.close()

    async def endless():
        yield b"a"
        await is_answered.wait()
        while True:
            yield b"a"

    server = await asyncio.start_server(refuse_at_once, "127.0.0.1", 0)
    listener.on_head = lambda head: is_answered.set()
    async with server:
        pool = pool_to(url_of(server.sockets[0]))
        assert (await send(call, pool, ask(endless()))).status == 413
        call.skip_body()
        go_on.set()
        await listener.over.wait()
        assert repr(pool).endswith("0 idle, 0 waiting>")
    assert listener.ends == [BodyEnd.WHOLE]


async def test_a_body_that_fails_ends_the_call(call, listener, pool_to):
    async def broken():
        yield b"a"
        raise BadRequest("The upload broke off; send it whole.")

    async def script(peer, _):
        raise AssertionError("the request never became whole")

    async with RawUpstream(script) as upstream:
        pool = pool_to(upstream.url)
        with pytest.raises(BadRequest):
            await send(call, pool, ask(broken()))
        assert repr(pool).endswith("0 idle, 0 waiting>")
    assert [type(end) for end in listener.ends] == [BadRequest]


async def test_no_free_connection_ends_the_call(call, listener, pool_to):
    pool = pool_to("http://127.0.0.1:1", max_connections=0, connect_timeout=0.01)
    with pytest.raises(Overloaded):
        await send(call, pool, ask())
    assert [type(end) for end in listener.ends] == [Overloaded]
    assert not call.is_sent


async def test_a_call_closed_while_it_waits_for_a_connection_sends_nothing(call, listener, pool_to):
    async def script(peer, _):
        raise AssertionError("it was sent")

    async with RawUpstream(script) as upstream:
        pool = pool_to(upstream.url, max_connections=1)
        busy = await pool.acquire()
        sending = asyncio.create_task(send(call, pool, ask()))
        await asyncio.sleep(0)
        call.close(Draining("ending"))
        busy.usable_until = math.inf
        pool._on_idle(busy)
        with pytest.raises(Draining):
            await sending
        assert upstream.seen == []
        assert pool._idle == [busy]  # free for another call
    assert [type(end) for end in listener.ends] == [Draining]


async def test_an_invalid_response_is_reported(call, listener, pool_to):
    async def script(peer, _):
        peer.send(b"nonsense\r\n\r\n")

    async with RawUpstream(script) as upstream:
        with pytest.raises(UpstreamBadReply):
            await send(call, pool_to(upstream.url), ask())
    assert [type(end) for end in listener.ends] == [UpstreamBadReply]


async def test_a_client_that_leaves_before_the_request_is_sent_ends_it(call, listener, pool_to):
    pool = pool_to("http://127.0.0.1:1", max_connections=0)
    sending = asyncio.create_task(send(call, pool, ask()))
    await asyncio.sleep(0)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    call.detach()
    assert listener.left == 1
    assert [type(end) for end in listener.ends] == [UpstreamUnreachable]


async def test_a_client_that_leaves_after_the_send_leaves_the_reply_to_be_read(call, listener, pool_to):
    is_sent, go_on = asyncio.Event(), asyncio.Event()

    async def script(peer, _):
        is_sent.set()
        await go_on.wait()
        peer.answer(b"all of it")

    async with RawUpstream(script) as upstream:
        sending = asyncio.create_task(send(call, pool_to(upstream.url), ask()))
        await is_sent.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        call.detach()
        assert (listener.left, listener.ends) == (1, [])
        go_on.set()
        await listener.over.wait()
    assert (listener.heads, listener.ends, call.bytes_in) == ([200], [BodyEnd.WHOLE], 9)


async def test_a_client_that_reads_nothing_stops_the_reading(call, listener, pool_to):
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def script(peer, _):
        if begun.is_set():
            peer.send(EMPTY)
            return
        begun.set()
        peer.send(CHUNKED)
        await go_on.wait()
        peer.send(b"1\r\na\r\n0\r\n\r\n")
        await peer.writer.drain()

    async with RawUpstream(script) as upstream:
        pool = pool_to(upstream.url)
        writer = RecordingWriter()
        await send(call, pool, ask())
        call.attach(writer)
        call.on_client_paused()
        go_on.set()
        await exchange(pool)  # by now a connection that is read would have been
        assert (writer.body, listener.ends, call.deadlines.is_paused, listener.paused) == (b"", [], True, 1)
        call.on_client_resumed()
        await listener.over.wait()
    assert (writer.body, writer.end_, call.deadlines.is_paused) == (b"a", BodyEnd.WHOLE, False)


async def test_a_deadline_is_reported_and_can_fail_the_pending_head(call, listener, pool_to):
    is_sent = asyncio.Event()

    async def script(peer, _):
        is_sent.set()
        await peer.closed_by_gateway()

    async with RawUpstream(script) as upstream:
        sending = asyncio.create_task(send(call, pool_to(upstream.url), ask()))
        await is_sent.wait()
        call.deadlines.started_at = monotonic()
        call.tick(monotonic() + 9)
        assert listener.deadlines == []
        call.tick(monotonic() + 11)
        assert listener.deadlines == [Deadline.HEAD]
        call.terminate(UpstreamTimeout("late"))
        with pytest.raises(UpstreamTimeout):
            await sending
        assert listener.ends == []  # the connection is still read
        call.close()
        call.close()
    assert listener.ends == [BodyEnd.CUT]


async def test_what_is_read_counts_for_the_deadlines_and_for_a_writer_is_the_read_before(call):
    class Seeing(RecordingWriter):
        def feed(self, data):
            super().feed(data)
            seen.append(call.last_byte_at)

    seen = []
    writer = Seeing()
    writer.tick = lambda now: math.inf
    call.attach(writer)
    call.deadlines.last_byte_at = 0.0  # of the head
    for data in (b"a", b"b"):
        call.on_body(data)
        seen.append(call.last_byte_at)
    assert seen[0] == 0.0 < seen[1] == seen[2] < seen[3]
    call.tick(monotonic())
    assert call.deadlines.last_byte_at == seen[3]
    call.close()
