"""A request is freed when it ends, not at some later collection: nothing of it is in a cycle."""

from __future__ import annotations

import gc

import pytest

from gateway.exchange import Exchange
from tests.harness.frames import ASK, ASK_JSON, PATH, START, WHOLE, settled, stream
from tests.harness.gateway import FLOW
from tests.harness.raw_upstream import RawUpstream

MANY = 5


async def whole(peer, _):
    stream(peer, WHOLE)


async def json(peer, _):
    peer.answer(b'{"text":"a"}')


async def broken_off(peer, _):
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + START)
    peer.fin()


async def reset(peer, _):
    peer.rst()


KINDS = {  # script, path, body, status
    "a stream": (whole, PATH, ASK, 200),
    "an answer in one piece": (json, PATH, ASK_JSON, 200),
    "a stream that breaks off": (broken_off, PATH, ASK, 200),
    "no answer": (reset, PATH, ASK_JSON, 502),
    "a refused body": (whole, PATH, {"question": "a", "overrideConfig": {"x": 1}}, 400),
    "an unknown path": (whole, "/api/v1/nothing", ASK, 404),
    "no prediction": (json, f"/api/v1/feedback/{FLOW}", {"chatId": "c", "messageId": "m"}, 200),
}


def exchanges():
    return sum(isinstance(one, Exchange) for one in gc.get_objects())


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
        finally:
            gc.enable()
