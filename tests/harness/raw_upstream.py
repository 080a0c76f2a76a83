"""An upstream on raw sockets: a coroutine of the test writes each response byte by byte."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Connection: keep-alive\r\nX-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n"
)
STREAMABLE = b'{"isStreaming":true}'


@dataclass
class Seen:
    """One request as received."""

    method: str
    target: str
    fields: dict[str, str]
    body: bytes
    head: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Peer:
    """One connection, seen from the upstream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self) -> Seen:
        """The next request, whole."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        method, target, _ = first.split(" ")
        fields = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        return Seen(method, target, fields, await self._body(fields), head)

    async def _body(self, fields: dict[str, str]) -> bytes:
        if fields.get("transfer-encoding") != "chunked":
            return await self.reader.readexactly(int(fields.get("content-length", 0)))
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return body

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def chunk(self, data: bytes) -> None:
        """One chunk of a chunked body; empty: the last one."""
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    def answer(self, body: bytes, status: str = "200 OK", content_type: str = "application/json") -> None:
        """A whole response with Content-Length."""
        self.writer.write(
            f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
            "Keep-Alive: timeout=5\r\n\r\n".encode()
            + body
        )

    def fin(self) -> None:
        self.writer.close()

    def rst(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def closed_by_gateway(self) -> None:
        """Wait until the gateway has closed this connection."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            return


Script = Callable[[Peer, Seen], Awaitable[None]]


class RawUpstream:
    """`script` answers the requests of clients; the gateway's own (streamability, health, abort) are answered here.

    `seen` has the requests of clients, `aborts` the targets of aborts, `questions` counts those about streamability.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.seen: list[Seen] = []
        self.aborts: list[str] = []
        self.abort_calls: list[Seen] = []
        self.aborted = asyncio.Event()
        self.may_answer_abort = asyncio.Event()
        self.may_answer_abort.set()
        self.asked = asyncio.Event()
        self.may_answer_question = asyncio.Event()
        self.may_answer_question.set()
        self.connections = self.checks = 0
        self.questions = 0
        self.streamable, self.streamable_status = STREAMABLE, "200 OK"
        self.errors: list[BaseException] = []

    async def __aenter__(self) -> RawUpstream:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=64 * 1024 * 1024)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        assert not self.errors, self.errors

    @property
    def url(self) -> str:
        assert self._server is not None
        return "http://127.0.0.1:{}".format(self._server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        peer = Peer(reader, writer)
        try:
            await self._answer_all(peer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except Exception as error:  # noqa: BLE001 - a mistake in the test's script, raised at its end
            self.errors.append(error)
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer_all(self, peer: Peer) -> None:
        while True:
            seen = await peer.request()
            if (
                seen.target.endswith("/chatflows-streaming/" + seen.target.rpartition("/")[2])
                and seen.fields.get("x-request-id") == "streamability"
            ):
                self.questions += 1
                self.asked.set()
                await self.may_answer_question.wait()
                peer.answer(self.streamable, self.streamable_status)
            elif seen.fields.get("x-request-id") == "health":
                self.checks += 1
                peer.answer(b"pong")
            elif seen.method == "PUT" and "/chatmessage/abort/" in seen.target:
                self.aborts.append(seen.target)
                self.abort_calls.append(seen)
                self.aborted.set()
                await self.may_answer_abort.wait()
                peer.answer(b'{"status":200,"message":"Chat message aborted"}')
            else:
                if not self.seen or peer is not getattr(self, "_last", None):
                    self.connections += 1
                self._last = peer
                self.seen.append(seen)
                await self._script(peer, seen)
            if peer.writer.is_closing():
                return
