"""The pool over loopback: reuse, the bound, the queue, and failures to connect."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing

import pytest
from msgspec.structs import replace

from gateway.errors import Overloaded, UpstreamTimeout, UpstreamUnreachable
from gateway.upstream import pool as pool_file
from gateway.upstream.connection import Connection
from gateway.upstream.pool import Place
from tests.harness import bounds
from tests.harness.ports import closed_port
from tests.harness.raw_upstream import RawUpstream
from tests.harness.scripted_pool import closed, exchange, url_of


async def answer(peer, _):
    peer.answer(b"")


@pytest.fixture
async def url():
    async with RawUpstream(answer) as upstream:
        yield upstream.url


async def let_run():
    for _ in range(3):
        await asyncio.sleep(0)


async def test_the_connection_last_used_is_taken_first(url, pool_to):
    pool = pool_to(url)
    one, two = await pool.acquire(), await pool.acquire()
    for connection in (one, two):
        pool._on_idle(connection)
        connection.usable_until = float("inf")
    assert repr(pool).endswith("2 open, 2 idle, 0 waiting>")
    assert await pool.acquire() is two
    assert await pool.acquire() is one


async def test_requests_that_wait_get_the_connections_of_other_settings(url, pool_to):
    pool = pool_to(url, max_connections=1)
    taken = [await pool.acquire()]
    waiting = [asyncio.create_task(pool.acquire()) for _ in range(3)]
    await let_run()
    assert repr(pool).endswith("1 open, 0 idle, 3 waiting>")
    pool.use(replace(pool.settings, max_connections=3))
    done, left = await asyncio.wait(waiting, timeout=bounds.TEST, return_when=asyncio.FIRST_COMPLETED)
    while len(done) < 2:
        more, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        done |= more
    assert repr(pool).endswith("3 open, 0 idle, 1 waiting>")
    for one in left:
        one.cancel()
    for connection in (*taken, *[one.result() for one in done]):
        connection.close()


async def test_a_fresh_one_leaves_the_idle_one_alone(url, pool_to):
    pool = pool_to(url)
    idle, _ = await exchange(pool)
    fresh = await pool.acquire(fresh=True)
    assert fresh is not idle
    assert fresh.responses == 0
    assert await pool.acquire() is idle


async def test_a_fresh_one_replaces_an_idle_one(url, pool_to):
    pool = pool_to(url, max_connections=1)
    idle, _ = await exchange(pool)
    fresh = await pool.acquire(fresh=True)
    assert idle.is_closed
    assert not fresh.is_closed
    await closed(idle)
    assert repr(pool).endswith("1 open, 0 idle, 0 waiting>")


async def test_a_waiter_gets_the_connection_that_is_returned(url, pool_to):
    pool = pool_to(url, max_connections=1)
    busy = await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await let_run()
    assert repr(pool).endswith("1 open, 0 idle, 1 waiting>")
    busy.usable_until = float("inf")
    pool._on_idle(busy)
    assert await waiting is busy


async def test_a_waiter_opens_a_connection_when_one_is_closed(url, pool_to):
    pool = pool_to(url, max_connections=1)
    busy = await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await let_run()
    busy.close()
    opened = await waiting
    assert not opened.is_closed
    assert opened is not busy


async def test_the_first_waiter_is_served_first_while_a_connection_opens(url, pool_to):
    pool = pool_to(url, max_connections=2)
    opening = asyncio.create_task(pool.acquire())
    busy = await pool.acquire()
    order = []

    async def wait(name):
        connection = await pool.acquire()
        order.append(name)
        return connection

    waiting = [asyncio.create_task(wait(name)) for name in "ab"]
    await let_run()
    await opening
    await let_run()
    busy.close()
    first = await waiting[0]
    assert order == ["a"]
    first.close()
    await waiting[1]
    assert order == ["a", "b"]


async def test_all_busy_for_too_long_is_overloaded(url, pool_to):
    pool = pool_to(url, max_connections=0, connect_timeout=0.01)
    with pytest.raises(Overloaded, match="busy"):
        await pool.acquire()
    assert repr(pool).endswith("0 waiting>")


@pytest.mark.parametrize("is_woken", [False, True])
async def test_a_waiter_that_is_cancelled_wakes_the_next(url, is_woken, pool_to):
    pool = pool_to(url, max_connections=1)
    busy = await pool.acquire()
    leaving, staying = (asyncio.create_task(pool.acquire()) for _ in range(2))
    await let_run()
    busy.usable_until = float("inf")
    if is_woken:
        pool._on_idle(busy)
        leaving.cancel()
    else:
        leaving.cancel()
        await let_run()
        pool._on_idle(busy)
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert await staying is busy
    assert repr(pool).endswith("1 open, 0 idle, 0 waiting>")


async def test_refused(pool_to):
    with closed_port() as port:
        pool = pool_to(f"http://127.0.0.1:{port}", max_connections=1)
        for _ in range(3):  # a failed connection does not count
            with pytest.raises(UpstreamUnreachable, match="cannot be reached"):
                await pool.acquire()
    assert repr(pool).endswith("0 open, 0 idle, 0 waiting>")


async def test_a_server_that_does_not_accept_in_time(pool_to):
    with closing(socket.socket()) as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        pool = pool_to(f"http://127.0.0.1:{port}", max_connections=1, connect_timeout=0.05)
        for _ in range(2):
            with pytest.raises(UpstreamTimeout, match=r"within 0\.05 s"):
                await pool.acquire()
        for filler in fillers:
            filler.close()
    assert repr(pool).endswith("0 open, 0 idle, 0 waiting>")


async def test_a_cancelled_opening_leaves_nothing(pool_to):
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        pool = pool_to(url_of(server), max_connections=1)
        opening = asyncio.create_task(pool.acquire())
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert repr(pool).endswith("0 open, 0 idle, 0 waiting>")
        pool_connection = await pool.acquire()
        pool_connection.close()


async def test_a_connection_that_is_lost_while_it_opens_is_no_connection(url, monkeypatch, pool_to):
    class Lost(Connection):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.abort()

    monkeypatch.setattr(pool_file, "Connection", Lost)
    pool = pool_to(url, max_connections=1)
    for _ in range(3):
        with pytest.raises(UpstreamUnreachable):
            await pool.acquire()
    assert repr(pool).endswith("0 open, 0 idle, 0 waiting>")


async def test_a_server_that_hangs_up_on_an_idle_connection(pool_to):
    hang_up = asyncio.Event()

    async def script(peer, _):
        peer.answer(b"")
        await hang_up.wait()
        peer.fin()

    async with RawUpstream(script) as upstream:
        pool = pool_to(upstream.url)
        connection, _ = await exchange(pool)
        hang_up.set()
        await closed(connection)
        assert repr(pool).endswith("0 open, 0 idle, 0 waiting>")


async def test_close_closes_idle_and_busy_ones(url, pool_to):
    pool = pool_to(url)
    idle, _ = await exchange(pool)
    busy = await pool.acquire(fresh=True)
    pool.close()
    for connection in (idle, busy):
        await closed(connection)
    assert repr(pool).endswith("0 open, 0 idle, 0 waiting>")


def test_an_ipv6_server_is_named_with_brackets():
    assert (str(Place("::1", 80)), str(Place("flowise", 3000))) == ("[::1]:80", "flowise:3000")
