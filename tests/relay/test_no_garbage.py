"""A request is freed when it ends, and a connection when it is closed, not at some later collection: no cycles."""

from __future__ import annotations

import gc
import ssl

import pytest

from gateway.exchange import Exchange
from tests.harness.certificates import Authority
from tests.harness.clock import until
from tests.harness.frames import ASK, ASK_JSON, PATH, START, WHOLE, settled, stream
from tests.harness.garbage import garbage, no_collection
from tests.harness.gateway import FLOW
from tests.harness.ports import closed_port
from tests.harness.raw_client import Wire, request
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


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_of_a_request_is_left_to_the_garbage_collector(start, connect, kind):
    script, path, body, status = KINDS[kind]
    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        with no_collection():
            for _ in range(MANY):
                wire.post(path, body)
                assert (await wire.reply()).status == status
            await settled(gateway, MANY)
            await wire.close()
            assert exchanges() <= 1  # of the connection's last request
            await until(lambda: not gateway.connections() and not gateway.pool().busy)
            assert garbage() == []


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/9\r\n\r\n",
        request("POST", PATH, b"x\r\n", Transfer_Encoding="chunked"),
        request("POST", PATH, b"{", Content_Length="10"),
        b"GET /api/v1/ping",
    ],
    ids=["no HTTP", "a broken chunk", "half a body", "half a head"],
)
async def test_nothing_of_a_request_that_is_none_is_left(start, connect, sent):
    async with start("http://127.0.0.1:1") as gateway:
        with no_collection():
            for _ in range(MANY):
                async with connect(gateway) as wire:
                    wire.send(sent)
                    await wire.writer.drain()
                    wire.writer.write_eof()
                    await wire.reader.read()
            await until(lambda: not gateway.connections())
            assert garbage() == []


async def test_nothing_is_left_of_a_connection_that_flowise_refuses(start, connect):
    with closed_port() as port:
        async with start(f"http://127.0.0.1:{port}") as gateway, connect(gateway) as wire:
            with no_collection():
                for _ in range(MANY):
                    wire.post(PATH, ASK)
                    assert (await wire.reply()).status == 502
                await settled(gateway, MANY)
                await wire.close()
                await until(lambda: not gateway.connections())
                assert garbage() == []


@pytest.mark.parametrize("kind", ["a request", "no trust", "not TLS"])
async def test_nothing_of_a_tls_connection_is_left(start, tmp_path, kind):
    authority = Authority(tmp_path)
    context = authority.client() if kind == "a request" else ssl.create_default_context()
    async with start("http://127.0.0.1:1", server={"tls": authority.pair().settings}) as gateway:
        with no_collection():
            for _ in range(MANY):
                if kind == "not TLS":
                    async with await Wire.to("127.0.0.1", gateway.port) as wire:
                        wire.send(b"\x00")
                        await wire.reader.read()
                elif kind == "no trust":
                    with pytest.raises(ssl.SSLCertVerificationError):
                        await Wire.to("localhost", gateway.port, ssl=context)
                else:
                    async with await Wire.to("localhost", gateway.port, ssl=context) as wire:
                        wire.send(request("GET", "/api/v1/ping"))
                        assert (await wire.reply()).body == b"pong"
            await until(lambda: not gateway.connections())
            assert garbage() == []
