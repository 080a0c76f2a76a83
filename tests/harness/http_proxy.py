"""An HTTP proxy: tunnels (CONNECT), requests in absolute form, and every way to refuse."""

from __future__ import annotations

import asyncio
import contextlib
import re

_TARGET = re.compile(rb"^(?:CONNECT ([^ ]+):(\d+)|\w+ http://([^/: ]+):(\d+)(/[^ ]*)) HTTP/1\.1\r\n")


class HttpProxy:
    """`answer`: sent in place of passing anything on. `heads`: of the requests that came. Every name leads to 127.0.0.1."""

    def __init__(self, answer: bytes = b"") -> None:
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()
        self.heads: list[bytes] = []

    async def __aenter__(self) -> HttpProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        return self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader, writer) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._pass_on(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pass_on(self, reader, writer) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if self._answer:
            writer.write(self._answer)
            return
        found = _TARGET.match(head)
        port = int(found[2] or found[4])
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        if found[1]:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            method = head.split(b" ", 1)[0]
            far_writer.write(method + b" " + found[5] + head[head.index(b" HTTP/1.1") :])
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            far_writer.close()


async def _pump(reader, writer) -> None:
    while data := await reader.read(2**16):
        writer.write(data)
    writer.close()
