"""Files are streamed with backpressure, in the memory of a few pieces, and complete or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.harness.raw_client import request
from tests.harness.surface import ANSWER, PREDICT, answering

MIB = 1024 * 1024
SIZE = 200 * MIB
ROUTE = {"uploads": True, "max_body": "500MiB"}
SERVER = {"max_body": "500MiB"}
FIELD = b'--b\r\nContent-Disposition: form-data; name="question"\r\n\r\nwhat is it\r\n'
FILE = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.bin"\r\nContent-Type: x/y\r\n\r\n'
CLOSING = b"\r\n--b--\r\n"
TYPE = "multipart/form-data; boundary=b"


class Sink:
    """A Flowise that reads an upload on demand and keeps its hash."""

    def __init__(self):
        self.may_read = asyncio.Event()
        self.has_begun = asyncio.Event()
        self.is_cut = asyncio.Event()
        self.hash = hashlib.sha256()
        self.head = self.form_head = b""
        self.size = 0
        self.largest = 0

    async def answer(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET"):
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + b'{"isStreaming":true}')
                    continue
                self.head = head
                await self._read(reader)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER))
        except (asyncio.IncompleteReadError, ConnectionError):
            if self.head:
                self.is_cut.set()
        finally:
            writer.close()

    async def _read(self, reader):
        self.has_begun.set()
        await self.may_read.wait()
        held = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            held += await reader.readexactly(size)
            await reader.readexactly(2)
            if not self.form_head:
                if b'filename="a.bin"' not in held or b"\r\n\r\n" not in held.partition(b"filename=")[2]:
                    continue
                before, name, after = held.partition(b'filename="a.bin"')
                lines, end, held = after.partition(b"\r\n\r\n")
                self.form_head = before + name + lines + end
            content, held = held[:-256], held[-256:]
            self.hash.update(content)
            self.size += len(content)
            self.largest = max(self.largest, resident())
        await reader.readexactly(2)
        rest = held.rpartition(b"\r\n--")[0]
        self.hash.update(rest)
        self.size += len(rest)


@asynccontextmanager
async def sink():
    upload = Sink()
    server = await asyncio.start_server(upload.answer, "127.0.0.1", 0)
    upload.url = "http://127.0.0.1:{}".format(server.sockets[0].getsockname()[1])
    try:
        yield upload
    finally:
        server.close()


def resident():
    """Resident memory of this process (gateway and both ends) in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def head(length):
    return request("POST", PREDICT, b"", Content_Type=TYPE, Content_Length=str(length))


async def test_200_mib_pass_with_backpressure_and_little_memory(start, connect):
    piece = bytes(range(256)) * 1024
    expected, sent_before, sent = hashlib.sha256(piece), 0, len(piece)
    async with (
        sink() as upload,
        start(upload.url, route=ROUTE, server=SERVER) as gateway,
        connect(gateway) as wire,
    ):
        wire.writer.transport.set_write_buffer_limits(high=MIB)
        wire.send(head(len(FIELD + FILE + CLOSING) + SIZE) + FIELD + FILE + piece)
        await upload.has_begun.wait()
        before = resident()
        while sent < SIZE:
            wire.send(piece)
            expected.update(piece)
            sent += len(piece)
            try:
                async with asyncio.timeout(None if sent_before else 0.3):
                    await wire.writer.drain()
            except TimeoutError:
                sent_before = sent
                upload.may_read.set()
        wire.send(CLOSING)
        reply = await wire.reply()
        await gateway.lines.request()
    assert (reply.status, reply.body) == (200, ANSWER)
    assert (upload.size, upload.hash.hexdigest()) == (SIZE, expected.hexdigest())
    assert 0 < sent_before < 40 * MIB  # what two sockets' buffers hold
    assert upload.largest - before < 16 * MIB
    assert b'name="question"\r\n\r\nwhat is it\r\n' in upload.form_head


async def test_upload_that_breaks_off_is_cut_upstream(start, connect):
    async with sink() as upload, start(upload.url, route=ROUTE, server=SERVER) as gateway:
        upload.may_read.set()
        async with connect(gateway) as wire:
            wire.send(head(SIZE) + FIELD + FILE + b"a" * 100_000)
            await upload.has_begun.wait()
        await upload.is_cut.wait()
        line = await gateway.lines.request()
    assert (line["outcome"], line["status"]) == ("client_closed", 499)
    assert line["abort"] is None


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        (b'\r\n--b\r\nContent-Disposition: form-data; name="temperature"\r\n\r\n1' + CLOSING, 400),
        (b'\r\n--b\r\nContent-Disposition: form-data; name="a[b]"\r\n\r\n1' + CLOSING, 400),
        (b"\r\n--b\r\nnonsense\r\n\r\n1" + CLOSING, 400),
    ],
)
async def test_upload_that_turns_out_bad_is_cut_upstream(rest, status, start, connect):
    file = b"a" * 100_000
    async with (
        sink() as upload,
        start(upload.url, route=ROUTE, server=SERVER) as gateway,
        connect(gateway) as wire,
    ):
        upload.may_read.set()
        wire.send(head(len(FIELD + FILE + file + rest)) + FIELD + FILE + file)
        await upload.has_begun.wait()
        wire.send(rest)
        reply = await wire.reply()
        await upload.is_cut.wait()
        line = await gateway.lines.request()
    assert (reply.status, reply.json()["code"], line["outcome"]) == (status, "bad_request", "refused")


async def test_upload_above_the_limit_is_cut_upstream(start, connect):
    route = {"uploads": True, "max_body": "200KiB"}
    chunked = request("POST", PREDICT, b"", Content_Type=TYPE, Transfer_Encoding="chunked")
    async with sink() as upload, start(upload.url, route=route) as gateway, connect(gateway) as wire:
        upload.may_read.set()
        for part in (FIELD + FILE, *[b"a" * 100_000] * 3):
            chunked += b"%x\r\n%b\r\n" % (len(part), part)
        wire.send(chunked)
        reply = await wire.reply()
        await upload.is_cut.wait()
    assert (reply.status, reply.json()["code"]) == (413, "too_large")


async def test_upload_without_announced_end_is_refused_when_it_pauses(start, connect):
    server = {**SERVER, "timeouts": {"body_idle": "100ms"}}
    async with (
        sink() as upload,
        start(upload.url, route=ROUTE, server=server) as gateway,
        connect(gateway) as wire,
    ):
        upload.may_read.set()
        wire.send(head(SIZE) + FIELD + FILE + b"a" * 100_000)
        reply = await wire.reply()
        await upload.is_cut.wait()
    assert (reply.status, reply.json()["code"]) == (400, "bad_request")


async def test_upload_announced_above_the_limit_is_not_sent(start, connect):
    async with answering() as upstream, start(upstream.url, route=ROUTE, server=SERVER) as gateway:
        async with connect(gateway) as wire:
            wire.send(head(501 * MIB))
            assert (await wire.reply()).status == 413
    assert upstream.seen == []
