"""One HTTP/1.1 connection to Flowise: writes a request and pushes its response into a sink as it arrives.

No task wakes for a piece of a response: `data_received` calls the sink in the same loop iteration. Reads above `SMALL`
bytes share the loop: they are handled in slices, as `large_reads.py` says.
Deadlines are the sink's business.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from time import monotonic
from typing import Protocol, cast

from gateway.causes import CLOSED, Cause, cause_of
from gateway.errors import GatewayError, UpstreamBadReply, UpstreamUnreachable
from gateway.upstream.large_reads import SMALL, LargeReads, SlicedReads
from gateway.upstream.response_parser import BodyEnd, Framing, ResponseHead, ResponseParser

HIGH_WATER = 64 * 1024
DEFAULT_KEEP_ALIVE = (
    4.0  # seconds; Flowise closes idle connections after 5 to 6 s and does not announce it on streams
)
KEEP_ALIVE_MARGIN = 1.0  # seconds before the announced timeout
PROBES = 4  # of TCP without an answer, after which the connection is lost
_END_OF_EVENT = b"\n\n\r\n"  # and of its chunk
_MOST_DIGITS = 5  # of a time that keeps a connection
_MOST_SIZE_DIGITS = 4  # of a chunk within one slice of a read
# RFC 9110 9.2.2. PUT is an abort here: a second one could end the next run of the conversation.
_REPEATABLE = frozenset({"GET", "HEAD"})


class UnansweredError(Exception):
    """The connection closed before one byte came back, and the request may be sent again: it is a GET or HEAD.

    `is_stale`: the connection was used before, so its server may only have closed it for being idle.
    """

    def __init__(self, cause: Cause, *, is_stale: bool) -> None:
        super().__init__(cause.words)
        self.cause = cause
        self.is_stale = is_stale


class ResponseSink(Protocol):
    """Receives one head, its body and one end; or one failure. Called in the loop iteration in which the bytes came."""

    def on_head(self, head: ResponseHead) -> None:
        """The head of the final response (not of a 1xx)."""

    def on_body(self, data: bytes) -> None:
        """All body bytes of one read, without framing."""

    def on_end(self, end: BodyEnd, last: bytes = b"") -> None:
        """The body ended, with these bytes of the read that ended it; or it broke off."""

    def on_failure(self, error: GatewayError | UnansweredError) -> None:
        """There will be no head."""


class Connection(asyncio.Protocol):
    """Idle (no sink), busy (a sink) or closed. `on_idle` returns it to the pool."""

    __slots__ = (
        "_got_bytes",
        "_has_head",
        "_idle_seconds",
        "_is_between_events",
        "_is_blocked",
        "_is_paused",
        "_is_repeatable",
        "_is_request_sent",
        "_lost",
        "_on_closed",
        "_on_idle",
        "_parser",
        "_reads",
        "_sink",
        "_transport",
        "_unblocked",
        "_unparsed",
        "_unread",
        "_written",
        "broken_by",
        "on_chunk",
        "opened_at",
        "responses",
        "usable_until",
    )

    def __init__(
        self,
        on_idle: Callable[[Connection], None],
        on_closed: Callable[[Connection], None],
        reads: LargeReads,
    ) -> None:
        """`reads`: of all connections that share the loop."""
        self._reads = reads
        self._on_idle = on_idle
        self._on_closed = on_closed
        self._parser: (
            ResponseParser  # made when it is connected: it is in a cycle until the connection is lost
        )
        self._transport: asyncio.Transport | None = None
        self._sink: ResponseSink | None = None
        self.on_chunk: Callable[[bytes, bytes], None] | None = None
        self._is_between_events = False  # the last read was one whole chunk, and ended an event
        self._is_blocked = False
        self._is_repeatable = False
        self._is_paused = False  # by the sink
        self._unparsed: SlicedReads | None = None  # of a large read
        self._lost: tuple[Exception | None] | None = None  # how the connection ended, behind it
        self._unblocked: asyncio.Future[None] | None = None
        self._written = 0  # bytes of the request
        self._is_request_sent = True
        self._got_bytes = False
        self._has_head = False
        self._idle_seconds = 0.0
        self._unread: select.poll | None = None  # finds bytes that wait to be read
        self.broken_by = ""  # why the last body broke off, for the log
        self.responses = 0
        self.opened_at = 0.0  # monotonic seconds
        self.usable_until = 0.0

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "busy" if self._sink else "idle"
        return f"<Connection {state}, {self.responses} responses>"

    @property
    def is_closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    @property
    def is_usable(self) -> bool:
        """Whether an idle connection can take a request: it is open and not too old, and nothing waits to be read.

        What waits is the end of the connection, or bytes that belong to no request. The event loop would report
        either in its next iteration, after the request was written.
        """
        transport = self._transport
        if transport is None or transport.is_closing() or self.usable_until <= monotonic():
            return False
        if self._unread is None:
            self._unread = select.poll()
            self._unread.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not self._unread.poll(0)

    @property
    def is_request_sent(self) -> bool:
        """Whether the whole request was written."""
        return self._is_request_sent

    @property
    def is_answered(self) -> bool:
        """Whether the head has arrived: sending more of the request body is useless."""
        return self._has_head

    def keep_alive(self, seconds: int) -> None:
        """Let TCP probe the connection after this much silence, and end it after `PROBES` without an answer."""
        if self._transport is None or self._transport.is_closing():
            return
        connected = self._transport.get_extra_info("socket")
        every = max(1, seconds // PROBES)
        options = (("TCP_KEEPIDLE", seconds), ("TCP_KEEPINTVL", every), ("TCP_KEEPCNT", PROBES))
        with suppress(OSError):  # of a connection that was lost at once, which is reported by itself
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in options:
                if (option := getattr(socket, name, None)) is not None:  # not every system has them
                    connected.setsockopt(socket.IPPROTO_TCP, option, value)

    # -- the request -------------------------------------------------------------------------------

    def start(self, method: str, data: bytes, sink: ResponseSink) -> None:
        """Write the head and the part of the body that is available; the response goes to the sink."""
        self._parser.expect(method)
        self._sink = sink
        self._is_between_events = False
        self.on_chunk = None
        self._is_repeatable = method in _REPEATABLE
        self._got_bytes = self._has_head = self._is_request_sent = False
        self._written = 0
        self.write(data)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write more of the body. Ignored on a closed connection: the sink was called already."""
        if self._transport is not None and not self._transport.is_closing():
            self._written += len(data)
            self._transport.write(data)

    @property
    def sending(self) -> tuple[int, int]:
        """How many bytes of the request the system has taken, and how many wait because Flowise reads too slowly."""
        waiting = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return self._written - waiting, waiting

    async def drain(self) -> None:
        """Wait until the write buffer has drained; returns at once on a closed connection."""
        if self._is_blocked:
            self._unblocked = asyncio.get_running_loop().create_future()
            await self._unblocked

    def finish_request(self) -> None:
        """The body is complete; otherwise the connection is not reused."""
        self._is_request_sent = True

    # -- the response ------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Call the sink no more, until `resume_reading`."""
        self._is_paused = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._is_paused = False
        if self._unparsed:
            self._unparsed.wait()
        elif self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """Drop the connection; the sink is not called any more."""
        self._sink = self.on_chunk = None
        if self._unparsed is not None:
            self._unparsed.close()
        if self._transport is not None:
            self._transport.abort()
        elif self._lost is not None:  # what is behind it is not read any more
            self._parser.close()

    # -- asyncio.Protocol --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = ResponseParser()
        self.opened_at = monotonic()
        self._transport.set_write_buffer_limits(high=HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        """Bytes on an idle connection belong to no request: close it.

        With `on_chunk`, a read that is one whole chunk and ends an event goes there, with its framing and without, and
        not to the sink, if the one before was such a read too. Flowise writes each event as one chunk. What else looks
        like a chunk is none only in the middle of another one, and then the parser does not find one piece of this size
        in it.
        """
        sink = self._sink
        if sink is None:
            self.close()
            return
        if len(data) > SMALL and not (data := self._beginning(data)):
            return
        on_chunk = self.on_chunk
        line = b"" if on_chunk is None or not data.endswith(_END_OF_EVENT) else _size_line(len(data))
        if line and self._is_between_events and on_chunk is not None and data.startswith(line):
            on_chunk(data, data[len(line) : -2])  # the parser would come to the same, and be where it is
            return
        parser = self._parser
        parser.feed(data)
        body = parser.body if self._has_head else self._begin(sink)
        is_chunk = line != b"" and len(body) == 1 and len(body[0]) == len(data) - len(line) - 2
        self._is_between_events = is_chunk and data.startswith(line)
        if parser.is_over:
            if self._sink is sink:
                self._end(sink, b"".join(body))
        elif body:
            sink.on_body(body[0] if len(body) == 1 else b"".join(body))

    def pause_writing(self) -> None:
        self._is_blocked = True

    def resume_writing(self) -> None:
        self._is_blocked = False
        unblocked, self._unblocked = self._unblocked, None
        if unblocked is not None and not unblocked.done():
            unblocked.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.resume_writing()
        self._on_closed(self)
        if self._unparsed:
            self._lost = (exc,)
        else:
            self._report_lost(exc)

    def _beginning(self, data: bytes) -> bytes:
        """Return what may be handled now of a large read; nothing more is read before the rest had its turn."""
        if self._unparsed is None:
            self._unparsed = SlicedReads(self._reads, self)
        now = self._unparsed.beginning(data)
        if len(now) < len(data) and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        return now

    @property
    def may_parse(self) -> bool:
        """Whether the sink takes more."""
        return not self._is_paused

    def read_on(self) -> None:
        """A large read was handled as a whole."""
        if self._lost is not None:
            self._report_lost(*self._lost)
        elif not self._is_paused:
            self.resume_reading()

    def _report_lost(self, exc: Exception | None) -> None:
        sink, self._sink, self.on_chunk = self._sink, None, None
        head, self._unparsed = self._parser.head, None
        self._parser.close()
        if sink is None:
            return
        cause = CLOSED if exc is None else cause_of(exc)
        if self._has_head and head is not None:
            self.broken_by = cause.words
            is_whole = exc is None and head.framing is Framing.CLOSE
            sink.on_end(BodyEnd.CLOSED if is_whole else BodyEnd.CUT)
        elif self._is_repeatable and not self._got_bytes:
            sink.on_failure(UnansweredError(cause, is_stale=self.responses > 0))
        else:
            sink.on_failure(UpstreamUnreachable("Flowise closed the connection before it answered.", cause))

    def _begin(self, sink: ResponseSink) -> list[bytes]:
        """Report the head if it is complete; returns the pieces of the body that came with it."""
        self._got_bytes = True
        head = self._parser.head
        if head is None or self._parser.fault:
            return []
        self._has_head = True
        announced = head.get(b"keep-alive")
        self._idle_seconds = (
            _announced_timeout(announced) - KEEP_ALIVE_MARGIN if announced else DEFAULT_KEEP_ALIVE
        )
        sink.on_head(head)
        return self._parser.body if self._sink is sink else []  # empty if the sink has closed the connection

    def _end(self, sink: ResponseSink, last: bytes) -> None:
        """`last`: the body bytes of this read."""
        parser = self._parser
        self._sink = self.on_chunk = None
        self.responses += 1
        if parser.fault:
            self.close()
            if self._has_head:
                if last:
                    sink.on_body(last)
                self.broken_by = parser.fault
                sink.on_end(BodyEnd.CUT)
            else:
                sink.on_failure(
                    UpstreamBadReply(f"Flowise sent a response that is not valid: {parser.fault}.")
                )
            return
        has_surplus = parser.has_surplus or bool(self._unparsed)
        if parser.may_stay_open and self._is_request_sent and not has_surplus and not self.is_closed:
            self._go_idle()
        else:
            self.close()
        sink.on_end(BodyEnd.WHOLE, last)

    def _go_idle(self) -> None:
        if self._idle_seconds <= 0:
            self.close()
            return
        self.resume_reading()
        self.usable_until = monotonic() + self._idle_seconds
        self._on_idle(self)


@lru_cache(512)
def _size_line(size: int) -> bytes:
    """How a chunk begins that takes `size` bytes as a whole; empty if none does that can end an event."""
    for digits in range(1, _MOST_SIZE_DIGITS + 1):
        inside = size - digits - len(b"\r\n\r\n")
        if inside >= len(b"\n\n") and len(line := b"%x\r\n" % inside) == digits + 2:
            return line
    return b""


def _announced_timeout(field: bytes) -> float:
    """Seconds of `Keep-Alive: timeout=5, max=100`, else the default."""
    for part in field.split(b","):
        name, _, value = part.strip().partition(b"=")
        if name.lower() == b"timeout" and value.isdigit() and len(value) <= _MOST_DIGITS:
            return float(value)
    return DEFAULT_KEEP_ALIVE + KEEP_ALIVE_MARGIN
