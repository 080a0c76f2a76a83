"""A connection that is lost before the head: a GET goes once more, anything else never (RFC 9110 9.2.2)."""

from __future__ import annotations

import asyncio
import math
import socket

import pytest

from gateway.errors import UpstreamUnreachable
from gateway.relay.call import UpstreamCall
from gateway.upstream.response_parser import BodyEnd
from tests.harness import bounds
from tests.harness.raw_upstream import RawUpstream
from tests.harness.scripted_pool import (
    OnlyPool,
    RecordingListener,
    RecordingSink,
    ask,
    deadlines,
    exchange,
    send,
    url_of,
)

EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def listener():
    return RecordingListener()


@pytest.fixture
def call(listener):
    return UpstreamCall(listener, deadlines(), OnlyPool(None))


async def pieces(*parts):
    for part in parts:
        yield part


def dies_on_reuse(seen_on, *, is_rude=False):
    """Answers every request but the second of all, on which it hangs up."""

    async def script(peer, _):
        seen_on.append(peer)
        if len(seen_on) != 2:
            peer.send(EMPTY)
        elif is_rude:
            peer.rst()
        else:
            peer.fin()

    return script


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_get_goes_once_more_on_a_fresh_connection(call, listener, pool_to, method):
    peers = []
    async with RawUpstream(dies_on_reuse(peers)) as upstream:
        pool = pool_to(upstream.url)
        await exchange(pool)
        head = await send(call, pool, ask(b"", method))
        assert [seen.method for seen in upstream.seen[1:]] == [method, method]
    assert head.status == 200
    assert peers[0] is peers[1] is not peers[2]
    assert (listener.heads, listener.ends) == ([200], [BodyEnd.WHOLE])


@pytest.mark.parametrize("is_rude", [False, True])
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_anything_else_is_never_sent_again(call, listener, pool_to, method, is_rude):
    peers = []
    async with RawUpstream(dies_on_reuse(peers, is_rude=is_rude)) as upstream:
        pool = pool_to(upstream.url)
        await exchange(pool)
        with pytest.raises(UpstreamUnreachable, match="before it answered"):
            await send(call, pool, ask(b"once", method))
        assert [seen.body for seen in upstream.seen[1:]] == [b"once"]
    assert peers[0] is peers[1]
    assert [type(end) for end in listener.ends] == [UpstreamUnreachable]


async def test_a_second_get_goes_out_on_a_fresh_connection_even_if_others_are_idle(call, pool_to):
    peers = []
    async with RawUpstream(dies_on_reuse(peers)) as upstream:
        pool = pool_to(upstream.url)
        first, second = await pool.acquire(), await pool.acquire()
        for connection in (first, second):
            connection.responses = 1
            connection.usable_until = math.inf
            pool._on_idle(connection)
        peers.append(None)
        await send(call, pool, ask(b"", "GET"))
        assert peers[2] is not peers[1]
        assert repr(pool).endswith("2 open, 2 idle, 0 waiting>")
        assert await pool.acquire() is not second


async def test_a_fresh_connection_that_dies_is_not_tried_again(call, listener, pool_to):
    async def script(peer, _):
        peer.fin()

    async with RawUpstream(script) as upstream:
        with pytest.raises(UpstreamUnreachable):
            await send(call, pool_to(upstream.url), ask(b"", "GET"))
        assert len(upstream.seen) == 1
    assert [type(end) for end in listener.ends] == [UpstreamUnreachable]


async def test_a_second_death_is_not_tried_again(call, listener, pool_to):
    async def script(peer, _):
        if len(upstream.seen) == 1:
            peer.send(EMPTY)
        else:
            peer.fin()

    async with RawUpstream(script) as upstream:
        pool = pool_to(upstream.url)
        await exchange(pool)
        with pytest.raises(UpstreamUnreachable):
            await send(call, pool, ask(b"", "GET"))
        assert len(upstream.seen) == 3
    assert [type(end) for end in listener.ends] == [UpstreamUnreachable]


async def test_one_byte_back_and_a_get_is_not_tried_again(call, listener, pool_to):
    async def script(peer, _):
        if len(upstream.seen) == 1:
            peer.send(EMPTY)
        else:
            peer.send(b"H")
            await peer.writer.drain()
            peer.fin()

    async with RawUpstream(script) as upstream:
        pool = pool_to(upstream.url)
        await exchange(pool)
        with pytest.raises(UpstreamUnreachable):
            await send(call, pool, ask(b"", "GET"))
        assert len(upstream.seen) == 2
    assert [type(end) for end in listener.ends] == [UpstreamUnreachable]


async def test_a_body_of_pieces_takes_a_fresh_connection_and_its_call_is_over(call, listener, pool_to):
    async def script(peer, _):
        if len(upstream.seen) == 1:
            peer.send(EMPTY)
        else:
            peer.fin()

    async with RawUpstream(script) as upstream:
        pool = pool_to(upstream.url)
        await exchange(pool)
        with pytest.raises(UpstreamUnreachable, match="before it answered"):
            await send(call, pool, ask(pieces(b"a")))
        assert len(upstream.seen) == 2
        assert upstream.connections == 2
    call.detach()
    assert [type(end) for end in listener.ends] == [UpstreamUnreachable]
    assert listener.left == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_nothing_is_sent_again_for_a_client_that_left(call, listener, pool_to, method):
    is_sent, go_on = asyncio.Event(), asyncio.Event()

    async def script(peer, _):
        if len(upstream.seen) == 1:
            peer.send(EMPTY)
        else:
            is_sent.set()
            await go_on.wait()
            peer.fin()

    async with RawUpstream(script) as upstream:
        pool = pool_to(upstream.url)
        await exchange(pool)
        sending = asyncio.create_task(send(call, pool, ask(b"", method)))
        await is_sent.wait()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        call.detach()
        go_on.set()
        await listener.over.wait()
        assert len(upstream.seen) == 2
    assert [type(end) for end in listener.ends] == [UpstreamUnreachable]


# -- an idle connection whose end has arrived, and that the event loop has not read yet -------------


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(bounds.STEP)  # a thread that waits longer would outlive the test
        yield server


async def idle_connection(pool, listening):
    """A connection that has served one request, and the upstream's side of it as a blocking socket."""
    connection = await pool.acquire()
    peer, _ = listening.accept()
    sink = RecordingSink()
    connection.start("GET", b"GET / HTTP/1.1\r\n\r\n", sink)
    connection.finish_request()
    peer.sendall(EMPTY)
    await sink.over.wait()
    return connection, peer


def hang_up(peer, *, is_rude):
    if is_rude:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    peer.close()


@pytest.mark.parametrize("is_rude", [False, True])
async def test_a_connection_with_an_unread_end_is_not_used(pool_to, listening, is_rude):
    pool = pool_to(url_of(listening), max_connections=1)
    ended, peer = await idle_connection(pool, listening)
    hang_up(peer, is_rude=is_rude)  # from here on the loop does not run before the pool chooses
    chosen = await pool.acquire()
    assert chosen is not ended
    assert ended.is_closed
    assert repr(pool).endswith("1 open, 0 idle, 0 waiting>")


async def test_a_connection_with_bytes_that_belong_to_no_request_is_not_used(pool_to, listening):
    pool = pool_to(url_of(listening))
    surplus, peer = await idle_connection(pool, listening)
    with peer:
        peer.sendall(EMPTY)
        assert await pool.acquire() is not surplus


async def test_of_several_the_one_that_is_open_is_used(pool_to, listening):
    pool = pool_to(url_of(listening))
    opened = [await pool.acquire() for _ in range(3)]
    peers = [listening.accept()[0] for _ in opened]
    for connection in opened:
        connection.usable_until = math.inf
        pool._on_idle(connection)
    for peer in peers[1:]:
        peer.close()
    assert await pool.acquire() is opened[0]
    assert repr(pool).endswith("1 open, 0 idle, 0 waiting>")
    peers[0].close()


async def test_a_prediction_after_an_idle_close_is_answered(call, pool_to, listening):
    """The race that sending again used to cover."""

    def answer_the_next():
        peer, _ = listening.accept()
        with peer:
            question = peer.recv(4096)
            peer.sendall(EMPTY)
        return question

    pool = pool_to(url_of(listening))
    _, peer = await idle_connection(pool, listening)
    answering = asyncio.create_task(asyncio.to_thread(answer_the_next))
    await asyncio.sleep(0)
    peer.close()  # as above
    assert (await send(call, pool, ask(b"question"))).status == 200
    assert (await answering).endswith(b"question")
