"""A request is sent once more, on a fresh connection, if a reused one closed before one byte came back."""

from __future__ import annotations

import asyncio
import math

import pytest

from gateway.errors import UpstreamUnreachable
from gateway.relay.call import UpstreamCall
from gateway.upstream.response_parser import BodyEnd
from tests.harness.raw_upstream import RawUpstream
from tests.harness.scripted_pool import RecordingListener, ask, deadlines, exchange

EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def listener():
    return RecordingListener()


@pytest.fixture
def call(listener):
    return UpstreamCall(listener, deadlines())


async def pieces(*parts):
    for part in parts:
        yield part


def dies_on_reuse(seen_on):
    """Answers every request but the second of all, on which it hangs up."""

    async def script(peer, seen):
        seen_on.append(peer)
        if len(seen_on) == 2:
            peer.fin()
        else:
            peer.send(EMPTY)

    return script


async def test_a_stale_connection_is_replaced_once_and_the_request_sent_again(call, listener, pool_to):
    peers = []
    async with RawUpstream(dies_on_reuse(peers)) as upstream:
        pool = pool_to(upstream.url)
        await exchange(pool)
        head = await call.send(pool, ask(b"once more"))
        assert [seen.body for seen in upstream.seen[1:]] == [b"once more", b"once more"]
    assert head.status == 200
    assert peers[0] is peers[1] is not peers[2]
    assert (listener.heads, listener.ends) == ([200], [BodyEnd.WHOLE])


async def test_what_is_sent_again_goes_out_on_a_fresh_connection_even_if_others_are_idle(call, pool_to):
    peers = []
    async with RawUpstream(dies_on_reuse(peers)) as upstream:
        pool = pool_to(upstream.url)
        first, second = await pool.acquire(), await pool.acquire()
        for connection in (first, second):
            connection.responses = 1
            connection.usable_until = math.inf
            pool._on_idle(connection)
        peers.append(None)
        await call.send(pool, ask())
        assert peers[2] is not peers[1]
        assert repr(pool).endswith("2 open, 2 idle, 0 waiting>")
        assert await pool.acquire() is not second


async def test_a_fresh_connection_that_dies_is_not_tried_again(call, listener, pool_to):
    async def script(peer, _):
        peer.fin()

    async with RawUpstream(script) as upstream:
        with pytest.raises(UpstreamUnreachable):
            await call.send(pool_to(upstream.url), ask())
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
            await call.send(pool, ask())
        assert len(upstream.seen) == 3
    assert [type(end) for end in listener.ends] == [UpstreamUnreachable]


async def test_one_byte_back_and_it_is_not_tried_again(call, listener, pool_to):
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
            await call.send(pool, ask())
        assert len(upstream.seen) == 2
    assert [type(end) for end in listener.ends] == [UpstreamUnreachable]


async def test_a_body_of_pieces_is_not_sent_again_and_its_call_is_over(call, listener, pool_to):
    async def script(peer, _):
        if len(upstream.seen) == 1:
            peer.send(EMPTY)
        else:
            peer.fin()

    async with RawUpstream(script) as upstream:
        pool = pool_to(upstream.url)
        await exchange(pool)
        with pytest.raises(UpstreamUnreachable, match="before it answered"):
            await call.send(pool, ask(pieces(b"a")))
        assert len(upstream.seen) == 2
        assert upstream.connections == 2  # it could not be sent again, so it never took the used one
    call.detach()
    assert [type(end) for end in listener.ends] == [UpstreamUnreachable]
    assert listener.left == 0


async def test_nothing_is_sent_again_for_a_client_that_left(call, listener, pool_to):
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
        sending = asyncio.create_task(call.send(pool, ask()))
        await is_sent.wait()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        call.detach()
        go_on.set()
        await listener.over.wait()
        assert len(upstream.seen) == 2
    assert [type(end) for end in listener.ends] == [UpstreamUnreachable]
