"""Open event streams, registered by chat id alone as Flowise does it, so that two with one chat id mix."""

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

_LINGER_NOT = struct.pack("ii", 1, 0)


class EventStream(EventSourceResponse):
    """One client's stream; writes whole frames as they are, one HTTP chunk each.

    aiohttp-sse refuses POST unless told otherwise and pings whenever it likes; Flowise has one clock for all.
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
        """Send the head."""
        await self.prepare(self._request)
        self.stop_streaming()

    async def say(self, data: bytes) -> None:
        """Write one chunk; a client that is gone, or was ended, gets nothing and stops nobody.

        Where nothing is written the loop is let go, so that an endless script cannot hold it.
        """
        if not self._ended.is_set():
            with suppress(ConnectionError):
                await self.write(data)
                return
        await asyncio.sleep(0)

    async def ended(self) -> None:
        """Wait until somebody ends it."""
        await self._ended.wait()

    def end(self) -> None:
        """Let the handler return, which writes the last chunk."""
        self._ended.set()

    def cut(self, how: Literal["fin", "rst"]) -> None:
        """Close the connection without a last chunk; then the handler is cancelled."""
        cut(self._request.transport, how)


def cut(transport: asyncio.Transport | None, how: Literal["fin", "rst"]) -> None:
    """Close a connection: after what was written (`fin`), or at once and rudely (`rst`)."""
    if transport is None:
        return
    if how == "fin":
        transport.close()
        return
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()


class Streams:
    """Flowise's registry: one stream per chat id, whatever the flow; the newest wins, the older hangs."""

    def __init__(self) -> None:
        self._clients: dict[bytes, EventStream] = {}

    def add(self, chat_id: Any, stream: EventStream) -> None:
        """From now on this stream gets everything that is said under this chat id."""
        self._clients[stringify(chat_id)] = stream

    async def say(self, chat_id: Any, data: bytes) -> None:
        """Write to whoever has this chat id now; nobody is fine."""
        stream = self._clients.get(stringify(chat_id))
        await (stream.say(data) if stream else asyncio.sleep(0))

    async def beat(self) -> None:
        """Write one heartbeat to every registered stream."""
        await asyncio.gather(*(stream.say(HEARTBEAT) for stream in list(self._clients.values())))

    async def beat_for_ever(self, seconds: float) -> None:
        """Beat on one clock for all; a client that takes nothing delays no other beyond one beat."""
        while True:
            await asyncio.sleep(seconds)
            await asyncio.wait([asyncio.ensure_future(self.beat())], timeout=seconds)

    def end(self, chat_id: Any) -> None:
        """End the stream that has this chat id now, with a last chunk."""
        stream = self._clients.pop(stringify(chat_id), None)
        if stream is not None:
            stream.end()

    def cut(self, chat_id: Any, how: Literal["fin", "rst"]) -> None:
        """End it without one."""
        stream = self._clients.pop(stringify(chat_id), None)
        if stream is not None:
            stream.cut(how)
