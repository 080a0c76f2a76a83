"""The client: one connection, calls fail at once while the store is away, and it reconnects."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from time import monotonic

import pytest

from gateway.admission.redis.client import PING_AFTER, MultiplexedClient, ignore_failure
from gateway.admission.redis.commands import PING, Command
from gateway.admission.redis.connection import RedisConnection
from gateway.admission.redis.pipeline import FAILURES
from gateway.admission.store import StoreError
from gateway.aio import Tasks
from tests.harness import bounds
from tests.harness.clock import until
from tests.harness.limit_process import StoreEvents
from tests.harness.ports import closed_port
from tests.harness.slow_proxy import SlowProxy

ECHO = Command(("ECHO", "a"))


async def no_catch_up(run):
    return None


@asynccontextmanager
async def connected(url, opening=(), catch_up=no_catch_up):
    events = StoreEvents()
    tasks = Tasks(events.bugs.append)
    client = MultiplexedClient(RedisConnection(url), tasks.start, events.listener, lambda: 0.5)
    await client.start(opening, catch_up)
    try:
        yield client, events
    finally:
        await client.close()
        await tasks.join(1)
        assert events.bugs == []
        assert len(client) == 0


async def kind_of(answer):
    with pytest.raises(StoreError) as failure:
        await answer
    return failure.value.kind


async def test_calls_are_answered(valkey):
    async with connected(valkey.url) as (client, events):
        assert client.is_up
        assert await asyncio.gather(*(client.call(Command(("ECHO", n))) for n in range(300))) == [
            str(n).encode() for n in range(300)
        ]
    assert events.changed == [(True, "")]
    assert events.failed == []


async def test_every_connection_begins_with_the_handshake(own_valkey):
    script = Command(("SCRIPT", "LOAD", "return 7"))
    with own_valkey.client() as client:
        name = client.script_load("return 7")
        client.script_flush()
    async with connected(own_valkey.url, [script]) as (client, events):
        assert await client.call(Command(("EVALSHA", name, 0))) == 7
        await asyncio.to_thread(own_valkey.restart)
        await until(lambda: events.changed == [(True, ""), (False, "connection"), (True, "")])
        assert await client.call(Command(("EVALSHA", name, 0))) == 7


async def test_an_absent_store_is_reported_once_and_found_when_it_starts(own_valkey):
    own_valkey.kill()
    async with connected(own_valkey.url) as (client, events):
        assert events.changed == [(False, "refused")]
        assert events.failed[0] == "refused"
        with pytest.raises(StoreError, match="away"):
            client.call(PING)
        await asyncio.to_thread(own_valkey.start)
        await events.until_up()
        assert await client.call(ECHO) == b"a"
    assert events.changed == [(False, "refused"), (True, "")]


async def test_pending_calls_fail_at_once_when_the_store_is_killed(own_valkey):
    async with connected(own_valkey.url) as (client, events):
        own_valkey.hold()
        answers = [client.call(ECHO, bounds.TEST) for _ in range(3)]
        await asyncio.to_thread(own_valkey.kill)
        assert [await kind_of(answer) for answer in answers] == ["connection"] * 3
        assert events.failed[:3] == ["connection"] * 3
        assert events.changed[-1] == (False, "connection")


async def test_a_hanging_store_delays_a_few_calls_and_then_none(own_valkey):
    async with connected(own_valkey.url) as (client, events):
        own_valkey.hold()
        for _ in range(FAILURES):
            assert await kind_of(client.call(ECHO, 0.02)) == "timeout"
        with pytest.raises(StoreError, match="away"):
            client.call(ECHO)
        own_valkey.go_on()
        await events.until_up()
        assert await client.call(ECHO) == b"a"


async def test_a_slow_store_is_not_up_although_it_connects(valkey):
    async with SlowProxy(valkey.port) as proxy:
        async with connected(proxy.url) as (client, events):
            proxy.delay = 0.2
            for _ in range(FAILURES):
                assert await kind_of(client.call(ECHO, 0.02)) == "timeout"
            connections = proxy.connections
            await until(lambda: proxy.connections > connections + 1)
            assert not client.is_up
            proxy.delay = 0.0
            await events.until_up()
            assert await client.call(ECHO) == b"a"


async def test_reconnects_are_spaced(monkeypatch):
    tries = []
    opening = RedisConnection.open

    async def counted(self):
        tries.append(monotonic())
        await opening(self)

    monkeypatch.setattr(RedisConnection, "open", counted)
    with closed_port() as port:
        async with connected(f"redis://127.0.0.1:{port}/0"):
            began = tries[0]
            await until(lambda: monotonic() - began > 0.6)
    assert 2 <= len(tries) <= 4  # after 75, 150 and 300 ms


async def test_the_store_catches_up_before_it_counts_as_up(valkey):
    seen = []

    async def catch_up(run):
        seen.append((is_up(), await run([Command(("ECHO", n)) for n in range(250)])))

    clients = []

    def is_up():
        return bool(clients and clients[0].is_up)

    async with connected(valkey.url, catch_up=catch_up) as (client, _):
        clients.append(client)
        assert seen == [(False, [str(n).encode() for n in range(250)])]


async def test_a_store_that_refuses_the_handshake_is_away(own_valkey):
    async with connected(own_valkey.url, [Command(("GET",))]) as (client, events):
        assert not client.is_up
        assert events.changed == [(False, "reply")]


async def test_an_idle_connection_is_pinged(own_valkey):
    async with connected(own_valkey.url) as (client, events):
        own_valkey.hold()
        client.tick(monotonic())
        assert len(client) == 0
        for count in range(1, FAILURES + 1):
            for _ in range(2):
                client.tick(monotonic() + PING_AFTER + 1)
                assert len(client) == count  # one pending PING is enough
            await until(lambda count=count: len(events.failed) == count)
        assert events.changed[-1] == (False, "timeout")
        own_valkey.go_on()


async def test_a_store_that_accepts_no_more_bytes_is_away(own_valkey):
    async with connected(own_valkey.url) as (client, events):
        own_valkey.hold()
        flood = client.call(Command(("ECHO", "a" * 20_000_000)), 0.2)
        await until(lambda: client._queue.is_blocked)
        behind = [client.call(ECHO, 0.02) for _ in range(FAILURES)]
        assert [await kind_of(answer) for answer in behind] == ["timeout"] * FAILURES
        assert await kind_of(flood) == "timeout"
        assert not client.is_up
        await until(
            lambda: not client._queue.is_blocked
        )  # the sender has stopped, although the store still hangs
        own_valkey.go_on()
        await events.until_up()
        assert await client.call(ECHO) == b"a"


async def test_a_missing_script_is_no_failure(valkey):
    async with connected(valkey.url) as (client, events):
        command = Command(("EVALSHA", "0" * 40, 0), "return 5")
        assert await asyncio.gather(client.call(command), client.call(ECHO)) == [5, b"a"]
    assert events.failed == []


async def test_close_fails_pending_calls(own_valkey):
    async with connected(own_valkey.url) as (client, events):
        own_valkey.hold()
        answer = client.call(ECHO, 5.0)
        await asyncio.sleep(0)
        await client.close()
        assert await kind_of(answer) == "connection"
        own_valkey.go_on()
    assert events.changed == [(True, "")]


async def test_an_ignored_failure_is_not_logged():
    answer = asyncio.get_running_loop().create_future()
    answer.set_exception(StoreError("timeout"))
    ignore_failure(answer)
    cancelled = asyncio.get_running_loop().create_future()
    cancelled.cancel()
    ignore_failure(cancelled)
