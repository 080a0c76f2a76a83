"""What clients notice when one gateway follows another: open streams, and a storm of new connections."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from tests.harness.clock import time_passes
from tests.harness.frames import END, METADATA, PATH, token
from tests.harness.raw_client import Wire, request
from tests.harness.raw_upstream import STREAM_HEAD

BEFORE, DURING, AFTER = ([token(f"{part} {at}") for at in range(5)] for part in ("before", "during", "after"))
WHOLE = b"".join([*BEFORE, *DURING, *AFTER]) + METADATA + END
CLIENTS = 8  # of the storm, each with one connection after the other


class Numbered:
    """A Flowise whose streams have numbered events, and wait at the beginning and at the end of the handover."""

    def __init__(self) -> None:
        self.begins, self.has_ended = asyncio.Event(), asyncio.Event()

    async def __call__(self, peer, seen):
        if seen.method == "GET":
            peer.answer(b'{"isStreaming":true}')
            return
        peer.send(STREAM_HEAD)
        for event in BEFORE:
            peer.chunk(event)
        await self.begins.wait()
        for event in DURING:
            peer.chunk(event)
            await asyncio.sleep(0)
        await self.has_ended.wait()
        for event in (*AFTER, METADATA + END, b""):
            peer.chunk(event)


class Stream:
    """One open stream: what has come of it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.body = b""

    @classmethod
    async def begin(cls, port: int) -> Stream:
        stream = cls(await Wire.to("127.0.0.1", port))
        stream._wire.post(PATH, {"question": "hi", "streaming": True})
        assert (await stream._wire.head())[0] == 200
        stream.body = await stream._wire.until(BEFORE[-1])
        return stream

    async def rest(self) -> bytes:
        """All of it, from the first byte to the last."""
        while chunk := await self._wire.chunk():
            self.body += chunk
        await self._wire.close()
        return self.body


class Storm:
    """Clients that connect, ask, read the answer and close, one connection after the other.

    `pause`: seconds of each between two connections; without, they take the cores that a successor needs to start.
    """

    def __init__(self, port: int, pause: float) -> None:
        self._port, self._pause = port, pause
        self._more = asyncio.Event()
        self.served = 0
        self.failures: list[str] = []

    async def _client(self) -> None:
        while True:
            try:
                async with await Wire.to("127.0.0.1", self._port) as wire:
                    wire.send(request("GET", "/api/v1/ping"))
                    reply = await wire.reply()
                    if (reply.status, reply.body) != (200, b"pong"):
                        self.failures.append(f"{reply.status} {reply.body!r}")
            except (OSError, EOFError) as error:
                self.failures.append(repr(error))
            self.served += 1
            self._more.set()
            await time_passes(self._pause)

    async def more(self, count: int) -> None:
        """Wait until this many more requests have ended."""
        wanted = self.served + count
        while self.served < wanted:
            self._more.clear()
            await self._more.wait()


@asynccontextmanager
async def storm(port: int, *, pause: float = 0.0):
    """`async with storm(port) as clients:`"""
    clients = Storm(port, pause)
    tasks = [asyncio.ensure_future(clients._client()) for _ in range(CLIENTS)]
    try:
        yield clients
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
