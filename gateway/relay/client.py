"""Writes a response straight onto the client's transport, and watches whether the client takes it.

That costs about 16 µs for an event, `StreamResponse.write` from a woken task 24. Meanwhile it is the protocol of the
transport, in front of aiohttp's: it learns without a task that the client reads too slowly, reads again, or is gone.
"""

from __future__ import annotations

import asyncio
import math
from time import monotonic

from gateway import web
from gateway.aio import untaken
from gateway.relay.call import UpstreamCall
from gateway.relay.response import LAST_CHUNK, RelayedResponse

# Bytes that wait, above which the client counts as slow: nothing has to look for them, and a fast client needs no more
# than the buffers of the system. With 0 uvloop's TLS would count every client as slow. Under TLS as much as uvloop's
# default waits below, unseen.
HIGH_WATER = 1


class ClientStream(asyncio.Protocol):
    """One response to one client, from its head to its end. `send_timeout` is in seconds."""

    __slots__ = (
        "_call",
        "_head",
        "_is_gone",
        "_request",
        "_response",
        "_send_timeout",
        "_taken",
        "_taken_at",
        "_transport",
        "_written",
        "bytes_out",
        "has_begun",
        "is_chunked",
    )

    def __init__(self, request: web.BaseRequest, call: UpstreamCall, send_timeout: float) -> None:
        self._request = request
        self._call = call
        self._send_timeout = send_timeout
        self._transport: asyncio.Transport | None = None
        self._response: RelayedResponse | None = None
        self._head = b""  # not sent yet
        self.is_chunked = False
        self._is_gone = False
        self._written = 0  # with the chunk framing, unlike `bytes_out`
        self._taken = 0  # of it, at the last look while some of it waits
        self._taken_at = math.inf  # the last time that this has changed, while some of it waits
        self.bytes_out = 0
        self.has_begun = False  # the head was sent, so that it cannot be replaced by an error

    def open(self, response: RelayedResponse) -> None:
        """Take over the transport; the head goes with the first bytes, or by `begin`.

        Raises:
            ConnectionError: the client is gone already.
        """
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client left before the head")
        self._transport = transport
        self._response = response
        self._head, response.head = response.head, b""
        self.is_chunked = response.is_chunked
        transport.set_protocol(self)
        transport.set_write_buffer_limits(high=HIGH_WATER)

    def begin(self) -> None:
        """Send the head now, if no bytes came with which it could go."""
        if self._head:
            self._send(b"")

    def write(self, data: bytes) -> None:
        """Send these bytes now, in one write. Ignored once the client is gone."""
        transport = self._transport
        if transport is None or transport.is_closing() or not data:
            return
        framed = b"%x\r\n%b\r\n" % (len(data), data) if self.is_chunked else data
        if self._head:
            framed = self._with_head(framed)
        self.bytes_out += len(data)
        self._written += len(framed)
        transport.write(framed)

    def write_framed(self, framed: bytes, size: int) -> None:
        """As `write`, of `size` bytes that are framed as a chunk already; only where `is_chunked`."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._head:
            framed = self._with_head(framed)
        self.bytes_out += size
        self._written += len(framed)
        transport.write(framed)

    def finish(self, data: bytes) -> None:
        """Send the last bytes together with the last chunk."""
        if self._response is None or not self.is_chunked:
            self.write(data)
            return
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        if self._send(chunk + LAST_CHUNK):
            self.bytes_out += len(data)
            self._response.is_finished = True

    def _send(self, framed: bytes) -> bool:
        """Send the head, if it was not, and these bytes. Returns whether the client was still there."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        if self._head:
            framed = self._with_head(framed)
        self._written += len(framed)
        transport.write(framed)
        return True

    def _with_head(self, framed: bytes) -> bytes:
        """The first bytes of the response. From here on aiohttp must not send another head."""
        head, self._head = self._head, b""
        self.has_begun = True
        self._request.writer.output_size = len(head)
        return head + framed

    def release(self) -> None:
        """Give the transport back to aiohttp, which then has the response completed."""
        transport, self._transport = self._transport, None
        if transport is not None:
            # also if it is closing: server/listener then drops a client that never reads its last bytes
            transport.set_protocol(self._request.protocol)

    def cut(self) -> None:
        """Send what was written and close without the last chunk: the body is not complete."""
        self.begin()
        if self._transport is not None:
            self._transport.close()

    def tick(self, now: float) -> float:
        """Drop a client that took no byte within the send timeout; return when to look again.

        Both are monotonic seconds. While nothing waits for the client there is nothing to look at.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return now
        if self._taken_at == math.inf:
            return math.inf
        taken = self._written - untaken(transport)
        if taken > self._taken:
            self._taken_at = now
        elif now - self._taken_at > self._send_timeout:
            self.drop()
        self._taken = taken
        return now

    @property
    def last_byte_at(self) -> float:
        """When Flowise was last read, before what is being written; in monotonic seconds."""
        return self._call.last_byte_at

    def drop(self) -> None:
        """Close at once and discard what was not sent."""
        if self._transport is not None:
            self._transport.abort()
        self._gone()

    # -- asyncio.Protocol, in front of aiohttp's -----------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._request.protocol.data_received(data)

    def pause_writing(self) -> None:
        """Something waits for the client."""
        self._request.protocol.pause_writing()
        if self._transport is not None and self._taken_at == math.inf:
            self._taken = self._written - untaken(self._transport)
            self._taken_at = monotonic()
        self._call.on_client_paused()

    def resume_writing(self) -> None:
        """Nothing waits any more."""
        self._request.protocol.resume_writing()
        self._taken_at = math.inf
        self._call.on_client_resumed()

    def eof_received(self) -> None:
        # A half-closed client looks like one that left. With unread data asyncio reports no end before the buffer is
        # flushed, so the connection is dropped here.
        self.drop()
        self._request.protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone()
        self._request.protocol.connection_lost(exc)

    def _gone(self) -> None:
        """The client hung up, half-closed, or was dropped."""
        if not self._is_gone:
            self._is_gone = True
            self._call.detach()
