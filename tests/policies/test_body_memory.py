"""The memory for bodies: counted while it is held, shared by the addresses, given back when the work has ended."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gateway.policies import body
from gateway.policies.body_reader import ADDRESS_SHARE
from tests.harness import bounds
from tests.harness.api_keys import change_key, key_of
from tests.harness.clock import until
from tests.harness.raw_client import request
from tests.harness.raw_upstream import RawUpstream
from tests.harness.surface import ANSWER, PREDICT, answering, ask

HEAVY = b'{"x":"%b"}' % (b"a" * 100_000)
MIB = 1024 * 1024


@pytest.fixture
def reading(monkeypatch):
    """Bodies are read only while `reading.go` is set; `reading.began` counts those whose reading has begun."""

    class Reading:
        go = threading.Event()
        began = threading.Semaphore(0)
        read_json = staticmethod(body.read_json)

    def read_json(content, route):
        if len(content) >= len(HEAVY):
            Reading.began.release()
            Reading.go.wait(bounds.STEP)
        return Reading.read_json(content, route)

    Reading.go.clear()
    monkeypatch.setattr(body, "read_json", read_json)
    yield Reading
    Reading.go.set()


async def begun(reading):
    assert await asyncio.to_thread(reading.began.acquire, timeout=bounds.STEP)


async def test_memory_is_given_back_when_the_work_ends_and_not_when_the_client_leaves(
    reading, start, connect
):
    async with answering() as upstream, start(upstream.url) as gateway:
        async with connect(gateway) as wire:
            wire.send(request("POST", PREDICT, HEAVY))
            await begun(reading)
            wire.reset()
        await gateway.lines.until("request")
        assert gateway.held_body_bytes() == len(HEAVY)
        reading.go.set()
        await until(lambda: gateway.held_body_bytes() == 0)
    assert upstream.seen == []


async def test_work_that_has_not_begun_is_dropped_with_its_client(reading, start, connect):
    async with answering() as upstream, start(upstream.url) as gateway:
        async with connect(gateway) as first:
            first.send(request("POST", PREDICT, HEAVY))
            await begun(reading)
            async with connect(gateway) as second:
                second.send(request("POST", PREDICT, HEAVY))
                await until(lambda: gateway.held_body_bytes() == 2 * len(HEAVY))
                second.reset()
            await until(lambda: gateway.held_body_bytes() == len(HEAVY))
            reading.go.set()
            assert (await first.reply()).status == 200
        await until(lambda: gateway.held_body_bytes() == 0)
    assert not reading.began.acquire(blocking=False)


async def test_more_bodies_than_may_wait_get_503_and_the_others_their_answer(
    reading, start, connect, monkeypatch
):
    monkeypatch.setattr(body, "MOST_USUAL", 2)
    async with (
        answering() as upstream,
        start(upstream.url) as gateway,
        connect(gateway) as one,
        connect(gateway) as two,
    ):
        for wire in (one, two):
            wire.send(request("POST", PREDICT, HEAVY))
        await until(lambda: gateway.held_body_bytes() == 2 * len(HEAVY))
        refused = await ask(connect, gateway, body=HEAVY)
        small = await ask(connect, gateway, body=b'{"question":"hi"}')
        reading.go.set()
        answers = [await wire.reply() for wire in (one, two)]
    assert (refused.status, refused.json()["code"]) == (503, "overloaded")
    assert "wait to be read" in refused.json()["message"]
    assert [small.status, *[reply.status for reply in answers]] == [200] * 3


async def test_large_bodies_have_a_queue_of_their_own(reading, start, connect):
    large = b'{"x":"%b"}' % (b"a" * 2 * MIB)
    async with answering() as upstream, start(upstream.url, route={"max_body": "4MiB"}) as gateway:
        async with connect(gateway) as first, connect(gateway) as second:
            first.send(request("POST", PREDICT, large))
            await begun(reading)
            second.send(request("POST", PREDICT, HEAVY))
            await begun(reading)  # beside the large one
            reading.go.set()
            assert [(await wire.reply()).status for wire in (first, second)] == [200, 200]


async def test_a_revocation_and_a_scrape_wait_for_nothing_else(start, connect, tmp_path):
    """Whatever fills the threads that everything shares: bodies, name resolution."""
    busy = threading.Event()
    key = await key_of(tmp_path, "ann")
    async with answering() as upstream, start(upstream.url, route={"auth": ["api_key"]}) as gateway:
        assert (await ask(connect, gateway, X_API_Key=key)).status == 200
        await change_key(tmp_path, key, revoked=1.0)
        loop = asyncio.get_running_loop()
        shared = [loop.run_in_executor(None, busy.wait, bounds.STEP) for _ in range(64)]
        try:
            while (await ask(connect, gateway, X_API_Key=key)).status == 200:
                await asyncio.sleep(0)
            assert (await gateway.metrics())["flowise_gateway_config_reload_timestamp_seconds"] > 0
        finally:
            busy.set()
            await asyncio.gather(*shared)


async def test_one_address_has_a_share_of_the_memory(start, connect):
    reached, go = asyncio.Event(), asyncio.Event()

    async def script(peer, _):
        reached.set()
        await go.wait()
        peer.answer(ANSWER)

    def asks(address, size):
        return ask(connect, gateway, body=b'{"x":"%b"}' % (b"a" * size), X_Forwarded_For=address)

    size = 200_000
    server = {
        "buffered_bodies": f"{ADDRESS_SHARE * 3 * size // 2}B",
        "max_body": f"{2 * size}B",
        "trusted_proxies": ["127.0.0.0/8"],
    }
    route = {"max_body": f"{2 * size}B"}
    async with RawUpstream(script) as upstream, start(upstream.url, server=server, route=route) as gateway:
        first = asyncio.create_task(asks("2001:db8::1", size))
        await reached.wait()
        refused = await asks("2001:db8::2", 3 * size // 2)
        others = [asyncio.create_task(asks(address, size)) for address in ("2001:db8:0:1::1", "10.0.0.1")]
        await until(lambda: len(upstream.seen) == 3)
        go.set()
        replies = await asyncio.gather(first, *others)
        again = await asks("2001:db8::2", 3 * size // 2)
        await until(lambda: gateway.held_body_bytes() == 0)
    assert (refused.status, refused.json()["code"]) == (503, "overloaded")
    assert "from this address" in refused.json()["message"]
    assert [reply.status for reply in (*replies, again)] == [200] * 4


async def test_what_is_built_of_a_body_counts_too(start, connect):
    reached, go = asyncio.Event(), asyncio.Event()

    async def script(peer, _):
        reached.set()
        await go.wait()
        peer.answer(ANSWER)

    body = b"{%b}" % b",".join(b'"%d":1' % n for n in range(256))
    async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
        asked = asyncio.create_task(ask(connect, gateway, body=body))
        await reached.wait()
        assert gateway.held_body_bytes() > len(body) + 200 * 350
        go.set()
        assert (await asked).status == 200
        await until(lambda: gateway.held_body_bytes() == 0)
