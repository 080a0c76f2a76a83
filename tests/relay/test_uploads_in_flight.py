"""An upload whose client stalls still sees Flowise's early response, a deadline and the drain."""

from __future__ import annotations

import asyncio

from tests.harness.frames import PATH
from tests.harness.raw_upstream import RawUpstream

UPLOADS = {"uploads": True}
BEGINNING = (
    b'--b\r\nContent-Disposition: form-data; name="question"\r\n\r\nhi\r\n'
    b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
    + b"y"
    * 300_000  # aiohttp's reader looks ahead: a field comes out when what follows it has come
)
HEAD = (
    f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    f"Content-Length: {len(BEGINNING) + 100}\r\n\r\n"
).encode()


class Half:
    """An upstream on a bare socket: reports that an upload has begun, and answers it when the test provides a response."""

    def __init__(self):
        self.has_begun, self.answer = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = "http://127.0.0.1:{}".format(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET"):
                writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"isStreaming":true}')
                return
            await reader.readuntil(b'"a.txt"')
            self.has_begun.set()
            writer.write(await self.answer)
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


async def test_an_early_answer_of_flowise_passes(start, connect):
    async with Half() as upstream, start(upstream.url, route=UPLOADS) as gateway, connect(gateway) as wire:
        wire.send(HEAD + BEGINNING)
        await upstream.has_begun.wait()
        upstream.answer.set_result(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 9\r\n\r\nslow down")
        reply = await wire.reply()
        line = await gateway.lines.request()
    assert (reply.status, reply.body) == (429, b"slow down")
    assert (line["status"], line["outcome"]) == (429, "upstream_error")


async def test_a_deadline_passes(start, connect):
    total = {"main": {"timeouts": {"total": "300ms"}}}
    async with (
        Half() as upstream,
        start(upstream.url, route=UPLOADS, upstreams=total) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(HEAD + BEGINNING)
        reply = await wire.reply()
        line = await gateway.lines.request()
        upstream.answer.cancel()
    assert (reply.status, reply.json()["code"]) == (504, "upstream_timeout")
    assert line["outcome"] == "timeout"


async def test_the_drain_ends_it(start, connect):
    async with Half() as upstream, start(upstream.url, route=UPLOADS) as gateway, connect(gateway) as wire:
        wire.send(HEAD + BEGINNING)
        await upstream.has_begun.wait()
        gateway.process.gateway.begin_drain()
        await gateway.process.gateway.drain(0.05)
        reply = await wire.reply()
        upstream.answer.cancel()
    assert (reply.status, reply.json()["code"]) == (503, "draining")
    assert gateway.lines.of("requests_left") == []


async def test_an_upload_goes_out_on_a_connection_of_its_own(start, connect):
    async def script(peer, _):
        peer.answer(b"{}")

    ending = b"x" * 91 + b"\r\n--b--\r\n"
    async with (
        RawUpstream(script) as upstream,
        start(upstream.url, route=UPLOADS) as gateway,
        connect(gateway) as wire,
    ):
        for _ in range(2):
            wire.send(HEAD + BEGINNING + ending)
            assert (await wire.reply()).status == 200
    assert upstream.connections == 2
