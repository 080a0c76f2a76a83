"""Clients that do not read: Flowise is paused, nothing is lost, and a client without progress is dropped."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import threading

import pytest

from gateway.errors import Unauthenticated
from tests.harness.certificates import Authority
from tests.harness.clock import time_passes, until
from tests.harness.frames import ABORT, ABORTED, ASK, ASK_JSON, END, METADATA, PATH, START, only, token
from tests.harness.gateway import FLOW
from tests.harness.raw_client import Wire, request
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream

MEGABYTE = 1024 * 1024
PIECE = token("x" * (64 * 1024 - 64))
FILE = f"/api/v1/get-upload-file?chatflowId={FLOW}&chatId=c&fileName=a.pdf"
SEND = {"server": {"timeouts": {"send": "300ms"}}}


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


async def slow_client(gateway, receive_buffer=256 * 1024, **options):
    """A connection whose socket buffers are small, so that little is hidden in the kernel."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (gateway.host, gateway.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=64 * 1024, **options)
    return Wire(reader, writer)


async def is_paused(gateway):
    """Wait until the gateway has stopped reading its upstream; what it holds for the client then."""
    (run,) = gateway.open_calls()
    while not run.call.deadlines.is_paused:
        assert not run.call.is_over
        await time_passes(0.001)
    return run.call._writer._client._transport.get_write_buffer_size()


@pytest.mark.parametrize("total", [48 * MEGABYTE])
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
async def test_flowise_is_paused_and_nothing_is_lost(start, reads, total, is_tls, tmp_path):
    authority = Authority(tmp_path)
    options = {"ssl": authority.client(), "server_hostname": "localhost"} if is_tls else {}
    server = {"tls": authority.pair().settings} if is_tls else {}
    sha = hashlib.sha256()

    async def script(peer, _):
        peer.send(STREAM_HEAD)
        for number in range(total // len(PIECE)):
            piece = PIECE[:40] + b"%09d" % number + PIECE[49:]
            sha.update(piece)
            peer.chunk(piece)
            await peer.writer.drain()
        sha.update(METADATA + END)
        peer.chunk(METADATA + END)
        peer.chunk(b"")

    async with (
        RawUpstream(script) as upstream,
        start(upstream.url, server=server) as gateway,
        await slow_client(gateway, **options) as wire,
    ):
        wire.post(PATH, ASK)
        await wire.head()
        came = hashlib.sha256()
        for _ in range(3):
            wire.writer.transport.pause_reading()
            assert await is_paused(gateway) < MEGABYTE
            assert reads.total < total
            wire.writer.transport.resume_reading()
            for _ in range(20):
                came.update(await wire.chunk())
        while piece := await wire.chunk():
            came.update(piece)
        line = await only(gateway)
    assert came.digest() == sha.digest()
    assert (line["outcome"], line["events"]) == ("ok", total // len(PIECE) + 2)


async def test_flowise_is_paused_from_its_first_bytes_on(start, reads):
    """A client that is full with what came together with the head is full, though nothing was read since."""
    early = PIECE * 3
    pieces = 40

    async def script(peer, _):
        peer.send(STREAM_HEAD + chunk(early))
        for _ in range(pieces):
            peer.chunk(PIECE)
        peer.chunk(METADATA + END)
        peer.chunk(b"")

    async with (
        RawUpstream(script) as upstream,
        start(upstream.url) as gateway,
        await slow_client(gateway, 8192) as wire,
    ):
        while not gateway.connections():
            await asyncio.sleep(0)
        (connection,) = gateway.connections()
        sock = connection.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        wire.writer.transport.pause_reading()
        wire.post(PATH, ASK)
        while not gateway.open_calls():
            await asyncio.sleep(0)
        assert await is_paused(gateway) < MEGABYTE
        for _ in range(100):
            await time_passes(0.001)
        assert reads.total < MEGABYTE
        assert await is_paused(gateway) < MEGABYTE
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MEGABYTE)
        wire.writer.transport.resume_reading()
        assert len((await wire.reply()).body) == len(early + PIECE * pieces + METADATA + END)
        assert (await only(gateway))["outcome"] == "ok"


@pytest.mark.parametrize("heartbeat", ["0s", "50ms"])
@pytest.mark.parametrize("trickle", [False, True])
async def test_a_client_that_reads_nothing_is_dropped_and_its_run_aborted(start, hurried, heartbeat, trickle):
    """Neither our heartbeats nor a Flowise that goes on slowly count as progress of the client."""
    hurried(60.0)
    full = asyncio.Event()

    async def script(peer, _):
        peer.send(STREAM_HEAD + chunk(START))
        while not full.is_set():
            peer.chunk(PIECE)
            await peer.writer.drain()
            await asyncio.sleep(0)
        while trickle and not upstream.aborted.is_set():
            await time_passes(0.02)
            peer.chunk(token("a"))
        await upstream.aborted.wait()
        peer.chunk(ABORTED)
        peer.chunk(b"")

    sections = SEND | {"route": {"heartbeat": heartbeat}}
    async with RawUpstream(script) as upstream, start(upstream.url, **sections) as gateway:
        async with await slow_client(gateway) as wire:
            wire.post(PATH, ASK)
            await wire.head()
            wire.writer.transport.pause_reading()
            (run,) = gateway.open_calls()
            await until(run.call._writer._client._transport.get_write_buffer_size)
            full.set()
            line = await only(gateway)
    assert upstream.aborts == [ABORT]
    assert (line["outcome"], line["abort"], line["status"]) == ("client_closed", "stopped", 200)


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
async def test_a_slow_client_is_not_a_stalled_one(start, hurried, is_tls, tmp_path):
    """A client that takes something within each send timeout stays, however long it all takes."""
    hurried(60.0)
    pieces = 400
    authority = Authority(tmp_path)
    options = {"ssl": authority.client(), "server_hostname": "localhost"} if is_tls else {}
    send = {"timeouts": {"send": "800ms"}}  # far above what a busy machine keeps this process waiting
    server = send | ({"tls": authority.pair().settings} if is_tls else {})

    async def script(peer, _):
        peer.send(STREAM_HEAD + chunk(PIECE * pieces) + chunk(METADATA + END) + b"0\r\n\r\n")

    async with RawUpstream(script) as upstream, start(upstream.url, server=server) as gateway:
        async with await slow_client(gateway, **options) as wire:
            wire.post(PATH, ASK)
            await wire.head()
            came = 0
            for _ in range(40):
                wire.writer.transport.resume_reading()
                came += len(await wire.reader.read(MEGABYTE))
                await time_passes(0.002)
                wire.writer.transport.pause_reading()
                await time_passes(0.03)
            wire.writer.transport.resume_reading()
            tail = b""
            while not tail.endswith(b"\r\n0\r\n\r\n"):
                got = await wire.reader.read(MEGABYTE)
                assert got
                came += len(got)
                tail = tail[-8:] + got
            line = await only(gateway)
    assert came > len(PIECE) * pieces
    assert line["outcome"] == "ok"


def sip(gateway, context, question, is_enough):
    """Read 2 KB each 50 ms."""
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        plain.connect((gateway.host, gateway.port))
        with context.wrap_socket(plain, server_hostname="localhost") if context else plain as client:
            client.sendall(request("POST", PATH, json.dumps(question).encode()))
            while not is_enough.wait(0.05):
                assert client.recv(2048)


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("question", [ASK, ASK_JSON], ids=["stream", "answer"])
async def test_a_client_that_sips_is_not_dropped(start, hurried, question, is_tls, tmp_path):
    """It takes something all the time, though for seconds too little for another write of the gateway."""
    hurried(60.0)
    authority = Authority(tmp_path)
    server = {"timeouts": {"send": "500ms"}} | ({"tls": authority.pair().settings} if is_tls else {})

    async def script(peer, _):
        if question is ASK:
            peer.send(STREAM_HEAD + chunk(PIECE * 60) + chunk(METADATA + END) + b"0\r\n\r\n")
        else:  # is read as a whole, because something is withheld
            peer.answer(b'{"text":"%b","usedTools":[]}' % (b"x" * 3 * MEGABYTE))

    route = {"events": {"withhold": ["usedTools"]}}
    async with RawUpstream(script) as upstream, start(upstream.url, server=server, route=route) as gateway:
        context, is_enough = authority.client() if is_tls else None, threading.Event()
        sipping = asyncio.create_task(asyncio.to_thread(sip, gateway, context, question, is_enough))
        await until(lambda: upstream.seen)
        (connection,) = gateway.connections()
        sock = connection.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 256 * 1024)
        await time_passes(2.5)
        assert gateway.connections()
        is_enough.set()
        await sipping


@pytest.mark.parametrize("reads_on", [False, True])
async def test_a_client_with_little_left_to_read_is_dropped_unless_it_reads_it(start, hurried, reads_on):
    """A few bytes that the system does not take are noticed; once they are taken, silence is none of the client's."""
    hurried(60.0)
    is_full, may_end = asyncio.Event(), asyncio.Event()

    async def script(peer, _):
        peer.send(STREAM_HEAD + chunk(START))
        while not is_full.is_set():
            peer.chunk(token("x" * 2000))
            await time_passes(0.001)
        peer.chunk(token("last"))
        await may_end.wait()
        peer.chunk(METADATA + END)
        peer.chunk(b"")

    send = {"server": {"timeouts": {"send": "2s" if reads_on else "300ms"}}}
    async with RawUpstream(script) as upstream, start(upstream.url, **send) as gateway:
        async with await slow_client(gateway) as wire:
            wire.post(PATH, ASK)
            await wire.head()
            wire.writer.transport.pause_reading()
            assert 0 < await is_paused(gateway) < 64 * 1024
            is_full.set()
            if reads_on:
                wire.writer.transport.resume_reading()
                while b"last" not in await wire.chunk():
                    pass
                await time_passes(2.5)  # more than the send timeout
                assert gateway.connections()
                may_end.set()
                await wire.until(END)
                assert (await only(gateway))["outcome"] == "ok"
            else:
                await until(lambda: not gateway.connections())
                may_end.set()
                assert (await only(gateway))["outcome"] == "client_closed"


@pytest.mark.parametrize("ending", ["whole", "cut", "json", "file"])
async def test_a_client_that_does_not_read_the_end_is_dropped(start, hurried, ending):
    """The answer is complete for us, so only the listener's guard looks after the connection."""
    hurried(60.0)
    large = 8 * MEGABYTE

    async def script(peer, _):
        if ending == "file":
            peer.send(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            peer.chunk(b"x" * large)  # and never its end
            await peer.closed_by_gateway()
        elif ending == "json":
            peer.answer(b'"' + b"x" * large + b'"')
        elif ending == "whole":
            peer.send(STREAM_HEAD + chunk(token("x" * large) + METADATA + END) + b"0\r\n\r\n")
        else:
            peer.send(STREAM_HEAD + chunk(b"data:" + b"x" * large))
            await peer.writer.drain()
            peer.fin()

    async with RawUpstream(script) as upstream, start(upstream.url, **SEND) as gateway:
        async with await slow_client(gateway) as wire:
            if ending == "file":
                wire.send(request("GET", FILE))
            else:
                wire.post(PATH, ASK_JSON if ending == "json" else ASK)
            await wire.head()
            wire.writer.transport.pause_reading()
            await until(lambda: not gateway.connections())
            line = await only(gateway)
            assert len(gateway.listener.connections) == 0
    assert line["outcome"] in ("ok", "truncated", "client_closed")


async def test_a_client_that_does_not_read_the_last_bytes_of_a_long_stream_is_dropped(start, hurried):
    """They wait in the gateway when the relay is done, after the guard had nothing to look at for a while."""
    go_on = asyncio.Event()

    async def script(peer, _):
        peer.send(STREAM_HEAD + chunk(START))
        await go_on.wait()
        while not upstream.aborted.is_set():
            peer.chunk(token("x" * 16_000))
            await time_passes(0.001)
        peer.chunk(ABORTED)
        peer.chunk(b"")

    async with RawUpstream(script) as upstream, start(upstream.url, **SEND) as gateway:
        async with await slow_client(gateway) as wire:
            wire.post(PATH, ASK)
            await wire.head()
            wire.writer.transport.pause_reading()
            await until(lambda: not gateway.watched())
            go_on.set()
            await is_paused(gateway)
            (run,) = gateway.open_calls()
            run.terminate(Unauthenticated("The key of this request has been revoked or has expired."))
            (closed,) = await gateway.lines.until("connection_closed")
            line = await only(gateway)
    assert (closed["reason"], line["outcome"]) == ("stalled", "refused")
