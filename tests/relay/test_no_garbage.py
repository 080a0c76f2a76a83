"""A request is freed when it ends, and a connection when it is closed, not at some later collection: no cycles."""

from __future__ import annotations

import gc

import pytest

from gateway.exchange import Exchange
from tests.harness.clock import until
from tests.harness.frames import ASK, ASK_JSON, PATH, START, WHOLE, settled, stream
from tests.harness.gateway import FLOW
from tests.harness.raw_upstream import RawUpstream

MANY = 5


async def whole(peer, _):
    stream(peer, WHOLE)


async def json(peer, _):
    peer.answer(b'{"text":"a"}')


async def large(peer, _):
    peer.answer(b'{"text":"%b"}' % (b"a" * 300_000))


async def broken_off(peer, _):
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + START)
    peer.fin()


async def large_and_broken_off(peer, _):
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + 1000 * START)
    peer.fin()


async def reset(peer, _):
    peer.rst()


KINDS = {  # script, path, body, status
    "a stream": (whole, PATH, ASK, 200),
    "an answer in one piece": (json, PATH, ASK_JSON, 200),
    "a large answer": (large, PATH, ASK_JSON, 200),
    "a stream that breaks off": (broken_off, PATH, ASK, 200),
    "a large stream that breaks off": (large_and_broken_off, PATH, ASK, 200),
    "no answer": (reset, PATH, ASK_JSON, 502),
    "a refused body": (whole, PATH, {"question": "a", "overrideConfig": {"x": 1}}, 400),
    "an unknown path": (whole, "/api/v1/nothing", ASK, 404),
    "no prediction": (json, f"/api/v1/feedback/{FLOW}", {"chatId": "c", "messageId": "m"}, 200),
}


def exchanges():
    return sum(isinstance(one, Exchange) for one in gc.get_objects())


def garbage():
    """The types of the gateway's objects that a collection finds; what else it finds may be of the test's own ends."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        found = [type(one) for one in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    return [one.__qualname__ for one in found if one.__module__.startswith("gateway.")]


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_of_a_request_is_left_to_the_garbage_collector(start, connect, kind):
    script, path, body, status = KINDS[kind]
    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        gc.collect()
        gc.disable()
        try:
            for _ in range(MANY):
                wire.post(path, body)
                assert (await wire.reply()).status == status
            await settled(gateway, MANY)
            await wire.close()
            assert exchanges() <= 1  # of the connection's last request
            await until(lambda: not gateway.connections() and not gateway.pool().busy)
            assert garbage() == []
        finally:
            gc.enable()
