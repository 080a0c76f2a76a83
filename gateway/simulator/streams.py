"""Open event streams, registered by chat id alone as in Flowise, so that two with the same chat id mix."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Literal

from aiohttp import web
from aiohttp_sse import EventSourceResponse
from multidict import CIMultiDict

from gateway.simulator.steps import HEARTBEAT, stringify

_NO_LINGER = struct.pack("ii", 1, 0)


class EventStream(EventSourceResponse):
    """One client's stream, which writes each frame unchanged as one HTTP chunk.

    aiohttp-sse refuses POST by default, and its ping has a timer for each stream; Flowise has one timer for all.
    """

    def __init__(self, request: web.Request, headers: Iterable[tuple[str, str]]) -> None:
        super().__init__(headers=CIMultiDict(headers), allow_all_methods=True, send_timeout=None)
        self._request = request
        self._ended = asyncio.Event()

    @property
    def keep_alive(self) -> bool:
        """Flowise ignores `Connection: close` on streams (capture stream-chain-close-wait)."""
        return self._request.version >= (1, 1)

    async def open(self) -> None:
        """Send the response head."""
        await self.prepare(self._request)
        self.stop_streaming()

    async def send_chunk(self, data: bytes) -> None:
        """Write one chunk, unless the client has left or the stream has ended.

        Yields to the loop if nothing is written, so that an endless script does not block it.
        """
        if not self._ended.is_set():
            with suppress(ConnectionError):
                await self.write(data)
                return
        await asyncio.sleep(0)

    async def ended(self) -> None:
        """Wait until `end` is called."""
        await self._ended.wait()

    def end(self) -> None:
        """Let the handler return, so that aiohttp writes the last chunk."""
        self._ended.set()

    def cut(self, how: Literal["fin", "rst"]) -> None:
        """Close the connection without a last chunk; aiohttp then cancels the handler."""
        cut(self._request.transport, how)


def cut(transport: asyncio.Transport | None, how: Literal["fin", "rst"]) -> None:
    """Close a connection: `fin` after the written data, `rst` at once."""
    if transport is None:
        return
    if how == "fin":
        transport.close()
        return
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


class Streams:
    """Flowise's registry: one stream per chat id over all flows; a newer stream replaces the older, which hangs."""

    def __init__(self) -> None:
        self._clients: dict[bytes, EventStream] = {}

    def add(self, chat_id: Any, stream: EventStream) -> None:
        """Register a stream; it receives all later writes under this chat id."""
        self._clients[stringify(chat_id)] = stream

    async def write(self, chat_id: Any, data: bytes) -> None:
        """Write to the stream that has this chat id now, if there is one."""
        stream = self._clients.get(stringify(chat_id))
        await (stream.send_chunk(data) if stream else asyncio.sleep(0))

    async def beat(self) -> None:
        """Write one heartbeat to every registered stream."""
        await asyncio.gather(*(stream.send_chunk(HEARTBEAT) for stream in list(self._clients.values())))

    async def beat_forever(self, seconds: float) -> None:
        """Beat every `seconds`; a client that reads nothing delays the others by one beat at most."""
        while True:
            await asyncio.sleep(seconds)
            await asyncio.wait([asyncio.ensure_future(self.beat())], timeout=seconds)

    def end(self, chat_id: Any) -> None:
        """End the stream that has this chat id now, with a last chunk."""
        stream = self._clients.pop(stringify(chat_id), None)
        if stream is not None:
            stream.end()

    def cut(self, chat_id: Any, how: Literal["fin", "rst"]) -> None:
        """Close the connection of the stream that has this chat id now, without a last chunk."""
        stream = self._clients.pop(stringify(chat_id), None)
        if stream is not None:
            stream.cut(how)
