"""A relay of bytes on uvloop, without HTTP and TLS: what the gateway's foundation costs alone.

`python -m tests.bench.bare_relay PORT UPSTREAM_PORT`. Each client connection has one connection to the upstream.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import cast

import uvloop


class _Side(asyncio.Protocol):
    """One of two connections; what it reads is written to `out`, the transport of the other."""

    def __init__(self, out: asyncio.Transport | None = None) -> None:
        self.out = out

    def data_received(self, data: bytes) -> None:
        if self.out is not None:
            self.out.write(data)

    def pause_writing(self) -> None:
        if self.out is not None:
            self.out.pause_reading()

    def resume_writing(self) -> None:
        if self.out is not None:
            self.out.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.out is not None:
            self.out.close()


class _Client(_Side):
    """The connection of a client, which opens the other."""

    def __init__(self, upstream_port: int) -> None:
        super().__init__()
        self._upstream_port = upstream_port
        self._early: list[bytes] = []  # read before there is another
        self._opening: asyncio.Task[None] | None = None  # until then: the loop itself holds no task

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        opening = self._open(cast(asyncio.Transport, transport))
        self._opening = asyncio.get_running_loop().create_task(opening)

    def data_received(self, data: bytes) -> None:
        if self.out is None:
            self._early.append(data)
        else:
            self.out.write(data)

    async def _open(self, transport: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        try:
            out, _ = await loop.create_connection(lambda: _Side(transport), "127.0.0.1", self._upstream_port)
        except OSError:
            transport.abort()
            return
        if transport.is_closing():
            out.close()
            return
        self.out, self._opening = out, None
        out.write(b"".join(self._early))
        self._early.clear()


async def _main(port: int, upstream_port: int) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: _Client(upstream_port), "127.0.0.1", port, backlog=4096
    )
    gc.freeze()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_main(*map(int, sys.argv[1:])))
