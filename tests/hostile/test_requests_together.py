"""Hostile requests all at once, and what a gateway holds while bodies wait."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from tests.harness import bounds
from tests.harness.blunt_upstream import blunt_upstream
from tests.harness.clock import until
from tests.harness.gateway import running
from tests.harness.loop_lag import MOST, loop_lag
from tests.harness.raw_client import Wire, request
from tests.harness.raw_upstream import RawUpstream
from tests.harness.surface import ANSWER, PREDICT
from tests.hostile.corpus import bodies, fields, forms
from tests.hostile.corpus.requests import KIB, MIB
from tests.hostile.test_requests import REQUESTS, exchange

AT_ONCE = 16
TABLES = {**bodies.STRUCTURE, **bodies.RECORDS, **forms.TABLE, **fields.TABLE}
MARGIN = 24 * MIB  # of memory that does not depend on the bodies: buffers of sockets, parsing of one body


@pytest.mark.timeout(6 * bounds.TEST)
async def test_all_at_once_stall_nobody_and_leave_nothing(tmp_path):
    """The answers differ with the load (some get 503), but each request has one."""
    requests = [case.make() for case in TABLES.values()]
    limit = asyncio.Semaphore(AT_ONCE)

    async def send(gateway, data):
        async with limit:
            return (await asyncio.to_thread(exchange, gateway.host, gateway.port, data))[0]

    route = {"uploads": True, "max_body": "16MiB", "override_config": {"allow": ["vars.*"]}}
    with blunt_upstream() as upstream:
        async with running(tmp_path, upstream, route=route) as gateway:
            with loop_lag() as lag:
                statuses = await asyncio.gather(*(send(gateway, data) for data in requests))
            await until(lambda: not gateway.connections() and not gateway.held_body_bytes())
            await until(lambda: not gateway.open_calls() and not gateway.exchanges())
            numbers = await gateway.metrics()
    assert set(statuses) <= {200, 204, 400, 401, 403, 404, 405, 413, 431, 503}
    assert lag.worst < MOST
    assert {name: number for name, number in numbers.items() if "_active" in name and number} == {}


def memory_of(pid: int, name: str) -> int:
    """A size in `/proc/PID/status`, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) * KIB


HELD = {
    "30 of one text": (30, b'{"x":"%b"}' % (b"a" * (MIB - 20)), {}),
    "30 of many members": (
        30,
        b'{"x":{%b}}' % b",".join(b'"%d":"%b"' % (n, b"a" * 1000) for n in range(990)),
        {},
    ),
    "30 of letters beyond ASCII": (30, b'{"x":"%b"}' % ("é😀".encode() * (MIB // 6 - 10)), {}),
    "a file of words": (
        1,
        b'{"uploads":[{"type":"file:full","name":"a","data":"%b"}]}' % (b"ab " * (16 * MIB // 3)),
        {"uploads": True},
    ),
    "a file of emoji": (
        1,
        b'{"uploads":[{"type":"file:full","name":"a","data":"%b"}]}' % ("é😀 ".encode() * (16 * MIB // 7)),
        {"uploads": True},
    ),
}


@pytest.mark.timeout(3 * bounds.TEST)
@pytest.mark.parametrize("name", HELD)
async def test_a_body_takes_its_size_and_little_more_while_it_waits(name, serve):
    count, body, route = HELD[name]
    go = asyncio.Event()

    async def script(peer, _):
        await go.wait()
        peer.answer(ANSWER)

    upstream = RawUpstream(script)
    async with upstream, serve(upstream.url, route=route, server={"buffered_bodies": "64MiB"}) as gateway:
        before = memory_of(gateway.pid, "VmRSS")
        wires = [await Wire.to(gateway.host, gateway.port) for _ in range(count)]
        for wire in wires:
            wire.send(request("POST", PREDICT, body))
        await until(lambda: len(upstream.seen) == count)
        most = memory_of(gateway.pid, "VmHWM")
        go.set()
        assert [(await wire.reply()).status for wire in wires] == [200] * count
        for wire in wires:
            await wire.close()
    assert most - before < 1.5 * count * len(body) + MARGIN


@pytest.mark.timeout(3 * bounds.TEST)
async def test_what_is_refused_is_not_held(serve):
    """300 clients that leave, with bodies of which nothing may be built."""
    body = bodies.members(b'{"question":"hi",', 1000 * KIB, b"}")()
    async with RawUpstream(None) as upstream, serve(upstream.url) as gateway:
        before = memory_of(gateway.pid, "VmRSS")
        for _ in range(300):
            wire = await Wire.to(gateway.host, gateway.port)
            wire.send(request("POST", PREDICT, body))
            await wire.writer.drain()
            wire.reset()
        async with await Wire.to(gateway.host, gateway.port) as wire:
            wire.send(request("GET", "/api/v1/ping"))
            assert (await wire.reply()).body == b"pong"
        assert memory_of(gateway.pid, "VmHWM") - before < 96 * MIB


@pytest.mark.parametrize("name", ["8 MiB of strings", "16 MiB of one word in a file", "many members"])
async def test_a_refused_body_is_freed_without_a_collection(name, tmp_path):
    """A traceback in a cycle with its error would hold it until the next one."""
    case = REQUESTS[name]
    data = case.make()
    with blunt_upstream() as upstream:
        async with running(tmp_path, upstream, route=dict(case.route), server=dict(case.server)) as gateway:
            gc.collect()
            gc.disable()
            try:
                await asyncio.to_thread(exchange, gateway.host, gateway.port, data)
                await until(lambda: not gateway.connections() and not gateway.exchanges())
                gc.set_debug(gc.DEBUG_SAVEALL)
                gc.collect()
                held = [
                    len(part)
                    for one in gc.garbage
                    for part in gc.get_referents(one)
                    if isinstance(part, bytes | bytearray | memoryview)
                ]
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
    assert max(held, default=0) < 64 * KIB
