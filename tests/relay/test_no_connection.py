"""No connection to Flowise: refused, not accepted, or all of them busy."""

from __future__ import annotations

import socket

from tests.harness.frames import ABORTED, ASK, PATH, START, only, settled
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream


def timeouts(**limits):
    return {"upstreams": {"main": {"timeouts": limits}}}


async def test_refused_connection(start, connect):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with start(url) as gateway, connect(gateway) as wire:
            for number in (1, 2):
                wire.post(PATH, ASK)
                reply = await wire.reply()
                line = (await settled(gateway, number))[-1]
                assert (reply.status, reply.json()["code"]) == (502, "upstream_unreachable")
                assert (line["outcome"], line["status"], line["abort"]) == ("upstream_error", 502, None)


async def test_connection_that_is_not_accepted(start, connect):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        crowd = []
        try:
            for _ in range(4):  # the backlog is full: further connections get no answer
                crowd.append(sock := socket.socket())
                sock.setblocking(False)
                sock.connect_ex(full.getsockname())
            url = f"http://127.0.0.1:{full.getsockname()[1]}"
            async with start(url, **timeouts(connect="200ms")) as gateway, connect(gateway) as wire:
                wire.post(PATH, ASK)
                reply = await wire.reply()
                line = await only(gateway)
        finally:
            for sock in crowd:
                sock.close()
    assert (reply.status, reply.json()["code"]) == (504, "upstream_timeout")
    assert (line["outcome"], line["abort"]) == ("timeout", None)


async def test_too_few_connections_for_all(start, connect):

    async def script(peer, _):
        peer.send(STREAM_HEAD)
        peer.chunk(START)
        await upstream.aborted.wait()
        peer.chunk(ABORTED)
        peer.chunk(b"")

    limits = {"upstreams": {"main": {"max_connections": 1, "timeouts": {"connect": "100ms"}}}}
    async with RawUpstream(script) as upstream, start(upstream.url, **limits) as gateway:
        async with connect(gateway) as first, connect(gateway) as second:
            first.post(PATH, ASK)
            await first.head()
            second.post(PATH, {**ASK, "chatId": "chat-2"})
            reply = await second.reply()
            assert (reply.status, reply.json()["code"]) == (503, "overloaded")
        lines = await settled(gateway, 2)
    assert [line["outcome"] for line in lines] == ["refused", "client_closed"]
