"""One HTTP/1.1 connection to Flowise: writes a request, pushes its response into a sink as it arrives.

No task wakes for a piece of a response: `data_received` calls the sink in the same loop iteration. The
connection does not know what a prediction is, who waits for it, or when it takes too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Protocol, cast

from gateway.errors import GatewayError, UpstreamBadReply, UpstreamUnreachable
from gateway.upstream.response_parser import BodyEnd, Framing, ResponseHead, ResponseParser

HIGH_WATER = 64 * 1024
DEFAULT_KEEP_ALIVE = 4.0  # Flowise closes idle connections after 5 to 6 s and says nothing of it on streams
KEEP_ALIVE_MARGIN = 1.0
_MOST_DIGITS = 5


class StaleConnectionError(Exception):
    """A pooled connection was dead already: not one byte came back, so the request was never read."""


class Sink(Protocol):
    """Where a response goes. Each call happens in the loop iteration in which the bytes came."""

    def on_head(self, head: ResponseHead) -> None:
        """The final head; called once, before any body."""

    def on_body(self, data: bytes) -> None:
        """All body bytes of one read, without framing."""

    def on_end(self, end: BodyEnd) -> None:
        """The end after a head; called once."""

    def on_failure(self, error: GatewayError | StaleConnectionError) -> None:
        """The end without a head; called once."""


class Connection(asyncio.Protocol):
    """States: idle (no sink), busy (a sink), closed. `on_idle` hands it back to the pool."""

    __slots__ = (
        "_got_bytes",
        "_has_head",
        "_idle_seconds",
        "_is_blocked",
        "_is_request_sent",
        "_on_closed",
        "_on_idle",
        "_parser",
        "_sink",
        "_transport",
        "_unblocked",
        "responses",
        "usable_until",
    )

    def __init__(
        self, on_idle: Callable[[Connection], None], on_closed: Callable[[Connection], None]
    ) -> None:
        self._on_idle = on_idle
        self._on_closed = on_closed
        self._parser = ResponseParser()
        self._transport: asyncio.Transport | None = None
        self._sink: Sink | None = None
        self._is_blocked = False
        self._unblocked: asyncio.Future[None] | None = None
        self._is_request_sent = True
        self._got_bytes = False
        self._has_head = False
        self._idle_seconds = 0.0
        self.responses = 0
        self.usable_until = 0.0

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "busy" if self._sink else "idle"
        return f"<Connection {state}, {self.responses} responses>"

    @property
    def is_closed(self) -> bool:
        """Whether it can carry nothing any more."""
        return self._transport is None or self._transport.is_closing()

    @property
    def is_request_sent(self) -> bool:
        """Whether the whole request was written."""
        return self._is_request_sent

    @property
    def is_answered(self) -> bool:
        """Whether Flowise has begun to answer: there is no use in sending more of the body."""
        return self._has_head

    # -- the request -------------------------------------------------------------------------------

    def start(self, method: str, data: bytes, sink: Sink) -> None:
        """Write a head, with as much of the body as is at hand; the response goes to the sink."""
        self._parser.expect(method)
        self._sink = sink
        self._got_bytes = self._has_head = self._is_request_sent = False
        self.write(data)

    def write(self, data: bytes) -> None:
        """Write more of the body; on a closed connection nothing happens, the sink has been told."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until Flowise takes more; returns at once on a closed connection."""
        if self._is_blocked:
            self._unblocked = asyncio.get_running_loop().create_future()
            await self._unblocked

    def finish_request(self) -> None:
        """The body is complete; without this the connection is never used again."""
        self._is_request_sent = True

    # -- the response ------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Take nothing more from Flowise for now."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """Drop the connection and forget the sink."""
        self._sink = None
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection stands."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came. On an idle connection none may."""
        sink = self._sink
        if sink is None:
            self.close()
            return
        parser = self._parser
        parser.feed(data)
        if not self._has_head:
            self._begin(sink)
        if self._has_head and (body := parser.body):
            sink.on_body(body[0] if len(body) == 1 else b"".join(body))
        if parser.is_over and self._sink is sink:
            self._end(sink)

    def pause_writing(self) -> None:
        """asyncio: the write buffer is above its high-water mark."""
        self._is_blocked = True

    def resume_writing(self) -> None:
        """asyncio: the write buffer has drained."""
        self._is_blocked = False
        unblocked, self._unblocked = self._unblocked, None
        if unblocked is not None and not unblocked.done():
            unblocked.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: it is gone."""
        self._transport = None
        self.resume_writing()
        sink, self._sink = self._sink, None
        self._on_closed(self)
        if sink is None:
            return
        head = self._parser.head
        if self._has_head and head is not None:
            is_whole = exc is None and head.framing is Framing.CLOSE
            sink.on_end(BodyEnd.CLOSED if is_whole else BodyEnd.CUT)
        elif self.responses and not self._got_bytes:
            sink.on_failure(StaleConnectionError())
        else:
            sink.on_failure(UpstreamUnreachable("Flowise closed the connection before it answered."))

    def _begin(self, sink: Sink) -> None:
        self._got_bytes = True
        head = self._parser.head
        if head is not None and not self._parser.fault:
            self._has_head = True
            self._idle_seconds = _announced_timeout(head.get(b"keep-alive")) - KEEP_ALIVE_MARGIN
            sink.on_head(head)

    def _end(self, sink: Sink) -> None:
        parser = self._parser
        self._sink = None
        self.responses += 1
        if parser.fault:
            self.close()
            if self._has_head:
                sink.on_end(BodyEnd.CUT)
            else:
                sink.on_failure(
                    UpstreamBadReply(f"Flowise sent a response that is not valid: {parser.fault}.")
                )
            return
        if parser.may_stay_open and self._is_request_sent and not parser.has_surplus and not self.is_closed:
            self._rest()
        else:
            self.close()
        sink.on_end(BodyEnd.WHOLE)

    def _rest(self) -> None:
        if self._idle_seconds <= 0:
            self.close()
            return
        self.resume_reading()
        self.usable_until = monotonic() + self._idle_seconds
        self._on_idle(self)


def _announced_timeout(field: bytes) -> float:
    """Seconds of `Keep-Alive: timeout=5, max=100`; the default where nothing readable is announced."""
    for part in field.split(b","):
        name, _, value = part.strip().partition(b"=")
        if name.lower() == b"timeout" and value.isdigit() and len(value) <= _MOST_DIGITS:
            return float(value)
    return DEFAULT_KEEP_ALIVE + KEEP_ALIVE_MARGIN
