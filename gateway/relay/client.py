"""The client's end of an answer, written straight onto its transport (MECHANICS 1 to 3).

aiohttp writes the head and the last chunk; between the two this file frames and writes, and a shim in front
of aiohttp's protocol tells, without a task, when the client takes no more, takes more again, or is gone.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from aiohttp import web

HIGH_WATER = 64 * 1024


class ClientWatcher(Protocol):
    """Who wants to know how the client is doing. All calls are synchronous."""

    def on_client_paused(self) -> None:
        """More than the high-water mark is waiting for the client."""

    def on_client_resumed(self) -> None:
        """It has drained."""

    def on_client_gone(self) -> None:
        """The client hung up, half-closed, or was dropped; nothing more can be written."""


class ClientStream:
    """One answer on its way to one client, from after the head until before the last chunk."""

    __slots__ = (
        "_is_chunked",
        "_is_gone",
        "_request",
        "_send_timeout",
        "_taken",
        "_taken_at",
        "_transport",
        "_watcher",
        "_written",
        "bytes_out",
    )

    def __init__(self, request: web.BaseRequest, watcher: ClientWatcher, send_timeout: float) -> None:
        self._request = request
        self._watcher = watcher
        self._send_timeout = send_timeout
        self._transport: asyncio.Transport | None = None
        self._is_chunked = False
        self._is_gone = False
        self._written = 0  # with the framing, unlike `bytes_out`
        self._taken = 0
        self._taken_at: float | None = None
        self.bytes_out = 0

    async def open(self, response: web.StreamResponse) -> None:
        """Send the head and take over the transport: the point of no return.

        Raises:
            ConnectionError: the client is gone already.
        """
        if self._request.transport is None:
            raise ConnectionResetError("the client left before the head")
        if self._request.version < (1, 1):
            response.force_close()  # aiohttp would leave a body without length open, and the client waiting
        writer = await response.prepare(self._request)
        transport = self._request.transport
        if transport is None or writer is None:
            raise ConnectionResetError("the client left with the head")
        self._transport = transport
        self._is_chunked = bool(getattr(writer, "chunked", False))
        transport.set_write_buffer_limits(high=HIGH_WATER)
        transport.set_protocol(_Shim(self._request.protocol, self))

    def write(self, data: bytes) -> None:
        """Send these bytes now, in one write. Nothing happens once the client is gone."""
        transport = self._transport
        if transport is None or transport.is_closing() or not data:
            return
        framed = b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data
        self.bytes_out += len(data)
        self._written += len(framed)
        transport.write(framed)

    def release(self) -> None:
        """Give the transport back to aiohttp, which ends the answer. The next request may follow."""
        transport, self._transport = self._transport, None
        if (
            transport is not None
        ):  # also a closing one: who never takes its last bytes is the listener's business
            transport.set_protocol(self._request.protocol)

    def cut(self) -> None:
        """Close without the last chunk, after what was written: this is not the whole answer."""
        if self._transport is not None:
            self._transport.close()

    def tick(self, now: float) -> None:
        """Drop a client that took no byte for the send timeout. `now`: monotonic seconds."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        waiting = transport.get_write_buffer_size()
        taken = self._written - waiting
        if waiting == 0 or taken > self._taken or self._taken_at is None:
            self._taken, self._taken_at = taken, now
        elif now - self._taken_at > self._send_timeout:
            self.drop()

    def drop(self) -> None:
        """Give the client up, with all that waits for it."""
        if self._transport is not None:
            self._transport.abort()
        self.gone()

    # -- from the shim -----------------------------------------------------------------------------

    def paused(self) -> None:
        """The transport's buffer is above its high-water mark."""
        self._watcher.on_client_paused()

    def resumed(self) -> None:
        """The transport's buffer has drained."""
        self._watcher.on_client_resumed()

    def gone(self) -> None:
        """The client is gone, however it went; said once."""
        if not self._is_gone:
            self._is_gone = True
            self._watcher.on_client_gone()


class _Shim(asyncio.Protocol):
    """Passes every callback on to aiohttp's protocol and tells the stream."""

    __slots__ = (
        "_inner",
        "_stream",
    )

    def __init__(self, inner: asyncio.BaseProtocol, stream: ClientStream) -> None:
        self._inner = cast(asyncio.Protocol, inner)
        self._stream = stream

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def pause_writing(self) -> None:
        self._inner.pause_writing()
        self._stream.paused()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
        self._stream.resumed()

    def eof_received(self) -> bool | None:
        # A half-closed client cannot be told from one that left; with unread data asyncio would not
        # notice its end before the buffer is flushed, so the connection is given up here.
        self._stream.drop()
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stream.gone()
        self._inner.connection_lost(exc)
