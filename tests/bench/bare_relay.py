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
    """One of two connections; what it reads is written to the other."""

    def __init__(self, other: _Side | None = None) -> None:
        self.other = other
        self.transport: asyncio.Transport | None = None
        self._early: list[bytes] = []  # read before there is another

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)
        else:
            self._early.append(data)

    def join(self, other: _Side) -> None:
        """Write to this one from now on, beginning with what has been read."""
        self.other = other
        early, self._early = self._early, []
        for data in early:
            self.data_received(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class _Client(_Side):
    """The connection of a client, which opens the other."""

    def __init__(self, upstream_port: int) -> None:
        super().__init__()
        self._upstream_port = upstream_port
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, upstream = await loop.create_connection(lambda: _Side(self), "127.0.0.1", self._upstream_port)
        except OSError:
            if self.transport is not None:
                self.transport.abort()
            return
        self._opening = None
        if self.transport is None and upstream.transport is not None:
            upstream.transport.close()
        self.join(upstream)


async def _main(port: int, upstream_port: int) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: _Client(upstream_port), "127.0.0.1", port, backlog=4096
    )
    gc.freeze()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_main(*map(int, sys.argv[1:])))
