"""The link: everybody on one connection, nobody waits on a store that is away, and it comes back by itself."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from time import monotonic

import pytest

from gateway.admission.redis.client import QUIET, MultiplexedClient, looked_at
from gateway.admission.redis.commands import PING, Command
from gateway.admission.redis.connection import RedisConnection
from gateway.admission.redis.pipeline import FAILURES
from gateway.admission.store import StoreError
from gateway.aio import Tasks
from tests.harness.clock import until
from tests.harness.limit_process import Told
from tests.harness.slow_proxy import SlowProxy
from tests.harness.valkey import free_port

ECHO = Command(("ECHO", "a"))


async def nothing_due(run):
    return None


@asynccontextmanager
async def linked(url, opening=(), catch_up=nothing_due):
    told = Told()
    tasks = Tasks(told.bugs.append)
    link = MultiplexedClient(RedisConnection(url), tasks.start, told.reports, lambda: 0.5)
    await link.start(opening, catch_up)
    try:
        yield link, told
    finally:
        await link.close()
        await tasks.join(1)
        assert told.bugs == []
        assert len(link) == 0


async def kind_of(answer):
    with pytest.raises(StoreError) as failure:
        await answer
    return failure.value.kind


async def test_calls_are_answered(valkey):
    async with linked(valkey.url) as (link, told):
        assert link.is_up
        assert await asyncio.gather(*(link.call(Command(("ECHO", n))) for n in range(300))) == [
            str(n).encode() for n in range(300)
        ]
    assert told.changed == [(True, "")]
    assert told.failed == []


async def test_every_connection_begins_with_what_is_to_be_known(own_valkey):
    script = Command(("SCRIPT", "LOAD", "return 7"))
    with own_valkey.client() as client:
        name = client.script_load("return 7")
        client.script_flush()
    async with linked(own_valkey.url, [script]) as (link, told):
        assert await link.call(Command(("EVALSHA", name, 0))) == 7
        await asyncio.to_thread(own_valkey.restart)
        await until(lambda: told.changed == [(True, ""), (False, "connection"), (True, "")])
        assert await link.call(Command(("EVALSHA", name, 0))) == 7


async def test_a_store_that_is_not_there_is_told_once_and_found_when_it_comes(own_valkey):
    own_valkey.kill()
    async with linked(own_valkey.url) as (link, told):
        assert told.changed == [(False, "connection")]
        with pytest.raises(StoreError, match="away"):
            link.call(PING)
        await asyncio.to_thread(own_valkey.start)
        await told.until_up()
        assert await link.call(ECHO) == b"a"
    assert told.changed == [(False, "connection"), (True, "")]


async def test_a_killed_store_is_known_at_once(own_valkey):
    async with linked(own_valkey.url) as (link, told):
        own_valkey.hold()
        answers = [link.call(ECHO, 5.0) for _ in range(3)]
        began = monotonic()
        await asyncio.to_thread(own_valkey.kill)
        assert [await kind_of(answer) for answer in answers] == ["connection"] * 3
        assert monotonic() - began < 2.0
        assert told.failed == ["connection"] * 3
        assert told.changed[-1] == (False, "connection")


async def test_a_held_store_costs_a_few_calls_and_then_nothing(own_valkey):
    async with linked(own_valkey.url) as (link, told):
        own_valkey.hold()
        for _ in range(FAILURES):
            assert await kind_of(link.call(ECHO, 0.02)) == "timeout"
        with pytest.raises(StoreError, match="away"):
            link.call(ECHO)
        own_valkey.go_on()
        await told.until_up()
        assert await link.call(ECHO) == b"a"


async def test_a_slow_store_is_not_up_however_well_it_connects(valkey):
    async with SlowProxy(valkey.port) as proxy:
        async with linked(proxy.url) as (link, told):
            proxy.delay = 0.2
            for _ in range(FAILURES):
                assert await kind_of(link.call(ECHO, 0.02)) == "timeout"
            connections = proxy.connections
            await until(lambda: proxy.connections > connections + 1)
            assert not link.is_up
            proxy.delay = 0.0
            await told.until_up()
            assert await link.call(ECHO) == b"a"


async def test_it_does_not_storm(monkeypatch):
    port, tries = free_port(), []
    opening = RedisConnection.open

    async def counted(self):
        tries.append(monotonic())
        await opening(self)

    monkeypatch.setattr(RedisConnection, "open", counted)
    async with linked(f"redis://127.0.0.1:{port}/0"):
        began = tries[0]
        await until(lambda: monotonic() - began > 0.6)
    assert 2 <= len(tries) <= 4  # after 75, 150 and 300 ms


async def test_what_is_due_is_done_before_the_store_counts_as_there(valkey):
    seen = []

    async def catch_up(run):
        seen.append((link_up(), await run([Command(("ECHO", n)) for n in range(250)])))

    links = []

    def link_up():
        return bool(links and links[0].is_up)

    async with linked(valkey.url, catch_up=catch_up) as (link, _):
        links.append(link)
        assert seen == [(False, [str(n).encode() for n in range(250)])]


async def test_a_store_that_refuses_what_it_begins_with_is_not_there(own_valkey):
    async with linked(own_valkey.url, [Command(("GET",))]) as (link, told):
        assert not link.is_up
        assert told.changed == [(False, "reply")]


async def test_a_quiet_connection_is_tried(own_valkey):
    async with linked(own_valkey.url) as (link, told):
        own_valkey.hold()
        link.tick(monotonic())
        assert len(link) == 0
        for count in range(1, FAILURES + 1):
            for _ in range(2):
                link.tick(monotonic() + QUIET + 1)
                assert len(link) == count  # one that waits is enough
            await until(lambda count=count: len(told.failed) == count)
        assert told.changed[-1] == (False, "timeout")
        own_valkey.go_on()


async def test_a_store_that_takes_no_more_bytes_is_away(own_valkey):
    async with linked(own_valkey.url) as (link, told):
        own_valkey.hold()
        flood = link.call(Command(("ECHO", "a" * 20_000_000)), 0.2)
        await until(lambda: link._traffic.is_stuck)
        behind = [link.call(ECHO, 0.02) for _ in range(FAILURES)]
        assert [await kind_of(answer) for answer in behind] == ["timeout"] * FAILURES
        assert await kind_of(flood) == "timeout"
        assert not link.is_up
        await until(lambda: not link._traffic.is_stuck)  # who sends has let go, though the store has not
        own_valkey.go_on()
        await told.until_up()
        assert await link.call(ECHO) == b"a"


async def test_a_forgotten_script_is_no_failure(valkey):
    async with linked(valkey.url) as (link, told):
        command = Command(("EVALSHA", "0" * 40, 0), "return 5")
        assert await asyncio.gather(link.call(command), link.call(ECHO)) == [5, b"a"]
    assert told.failed == []


async def test_closing_tells_who_waits(own_valkey):
    async with linked(own_valkey.url) as (link, told):
        own_valkey.hold()
        answer = link.call(ECHO, 5.0)
        await asyncio.sleep(0)
        await link.close()
        assert await kind_of(answer) == "connection"
        own_valkey.go_on()
    assert told.changed == [(True, "")]


async def test_a_failure_that_nobody_waits_for_is_quiet():
    answer = asyncio.get_running_loop().create_future()
    answer.set_exception(StoreError("timeout"))
    looked_at(answer)
    cancelled = asyncio.get_running_loop().create_future()
    cancelled.cancel()
    looked_at(cancelled)
