"""One request to Flowise and its reply, until the reply has ended, with or without a client.

The call is the sink of its connection: it resolves `head`, pushes the body to the client's writer and to the observer,
and watches the deadlines. What a deadline or a lost client means (abort, metering) is its listener's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic

from gateway.aio import OneShot
from gateway.errors import GatewayError, UpstreamBadReply, UpstreamUnreachable
from gateway.relay.deadlines import Deadline, Deadlines
from gateway.relay.interfaces import CallListener, ResponseWriter
from gateway.relay.replies import BodyObserver
from gateway.upstream.choice import NO_HEAD, Connector
from gateway.upstream.connection import Connection, UnansweredError
from gateway.upstream.headers import UpstreamRequest
from gateway.upstream.response_parser import BodyEnd, ResponseHead
from gateway.upstream.short_request import CLOSED_EARLY

# Observing some reads at once costs a third of what each costs by itself.
UNREAD = 8192  # the most bytes that the observer lags behind, besides those of the last read
PER_READ = 500  # what a read counts beside its bytes, so that there are at most 16
MOST_EARLY = 4  # reads that are kept while there is no writer; each has at most `large_reads.SLICE` bytes

# How fast a reply without a client is read: at once what may wait in the buffers of the sockets, then, in bytes per
# second, far more than a model writes, while a flood costs a few percent of a core. It is not closed instead: Flowise
# would go on, and the conversation must be held for as long.
UNATTENDED_BURST = 8 * 1024 * 1024
UNATTENDED_RATE = 256 * 1024


class UpstreamCall:
    """The sink of one connection and the watcher of one client."""

    __slots__ = (
        "_allowance",
        "_allowed_at",
        "_connection",
        "_early",
        "_early_end",
        "_early_reads",
        "_feed_chunk",
        "_is_client_paused",
        "_is_held",
        "_is_throttled",
        "_listener",
        "_unread",
        "_unread_size",
        "_writer",
        "broken_by",
        "bytes_in",
        "connector",
        "deadlines",
        "delivered",
        "head",
        "is_over",
        "last_byte_at",
        "observer",
        "terminated_by",
    )

    def __init__(self, listener: CallListener, deadlines: Deadlines, connector: Connector) -> None:
        self._listener = listener
        self.connector = connector
        self.deadlines = deadlines
        self.observer: BodyObserver | None = None
        self._connection: Connection | None = None
        self._writer: ResponseWriter | None = None
        self._feed_chunk: Callable[[bytes, int], None] | None = None
        self._early, self._early_reads = b"", 0  # body bytes that came before there was a writer
        self._early_end: BodyEnd | None = None
        self.terminated_by: GatewayError | None = None
        self._is_client_paused = False
        self._is_held = False  # reading is paused because there is no writer yet
        self.head: OneShot[ResponseHead] = OneShot()
        self.delivered: OneShot[None] = OneShot()  # the client gets no more of the body
        self.is_over = False
        self._unread: list[tuple[bytes, float]] = []
        self._unread_size = 0
        self._is_throttled = False  # the allowance of a reply without a client is used up
        self._allowance = self._allowed_at = 0.0  # bytes; monotonic seconds of the last refill
        self.last_byte_at = 0.0
        self.bytes_in = 0
        self.broken_by = ""  # why the body is cut, for the log

    # -- the request -------------------------------------------------------------------------------

    async def send(self, request: UpstreamRequest) -> ResponseHead:
        """Send the request and wait for the head of the reply.

        A GET or HEAD may be sent once more, on a fresh connection, if its own closed before one byte came back.
        Nothing else is ever sent twice: Flowise may have begun to work on it.

        Raises:
            GatewayError: there is no head.
        """
        # an iterator takes long to send, so it gets a fresh connection
        is_upload = not isinstance(request.body, bytes | tuple)
        try:
            try:
                # mostly there is one, so that nothing is waited for
                connection = None if is_upload else self.connector.take_idle()
                self._start(connection or await self._acquire(fresh=is_upload), request)
                if is_upload:
                    await self._send_pieces(request)
                if not self.head.is_set:
                    await self.head.waiter()
                return self.head.result()
            except UnansweredError as error:
                unanswered = error
            if self.is_over or self.delivered.is_set or not self.connector.may_repeat(unanswered):
                raise self._unanswered(unanswered)
            self.head = OneShot()
            self.deadlines.sent_at = math.inf
            try:
                self._start(await self._acquire(fresh=True), request)
                return await self.head.wait()
            except UnansweredError as error:
                raise self._unanswered(error) from None
        except GatewayError as error:
            if not self.is_sent:
                self.close(error)
            raise

    def _unanswered(self, unanswered: UnansweredError) -> UpstreamUnreachable:
        """The error of a call that is over with it."""
        self.connector.lost(unanswered.cause)
        error = UpstreamUnreachable(CLOSED_EARLY, unanswered.cause)
        self.close(error)
        return error

    async def _acquire(self, *, fresh: bool) -> Connection:
        """A connection. The wait ends if the call is terminated.

        Raises:
            GatewayError: there is none, or why the call was terminated.
        """
        with self.head.interrupts():
            return await self.connector.connect(fresh=fresh)
        await self.head.wait()
        raise AssertionError("a call without a connection has no head")

    def _start(self, connection: Connection, request: UpstreamRequest) -> None:
        """Send the request, of an upload only its head."""
        if self.head.is_set:  # terminated while it waited for a connection
            connection.close()
            return
        self._connection = connection
        connection.start(request.method, request.encoded(self.connector.server.addressed), self)
        if isinstance(request.body, tuple):
            for piece in request.body:
                connection.write(piece)
        elif not isinstance(request.body, bytes):
            return
        connection.finish_request()
        self.deadlines.sent_at = monotonic()

    async def _send_pieces(self, request: UpstreamRequest) -> None:
        """Send the body of an upload as it is read, until an early reply or the end of the call."""
        connection, pieces = self._connection, request.body
        if self.head.is_set or connection is None or isinstance(pieces, bytes | tuple):
            return
        with self.head.interrupts():
            async for piece in pieces:
                if piece:
                    connection.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    await connection.drain()
            connection.write(b"0\r\n\r\n")
            connection.finish_request()
        if connection.is_request_sent or connection.is_answered:
            self.deadlines.sent_at = monotonic()

    @property
    def is_sent(self) -> bool:
        """Whether the whole request was written: from here on Flowise works on it."""
        return self.deadlines.sent_at <= monotonic()

    # -- ResponseSink ------------------------------------------------------------------------------

    def on_head(self, head: ResponseHead) -> None:
        self.deadlines.head_at = self.deadlines.last_byte_at = monotonic()
        self.connector.answered(head.status)
        try:
            self._listener.on_head(head)
        except UpstreamBadReply as error:
            self.close(error)
        else:
            self.head.set(head)

    def on_body(self, data: bytes) -> None:
        """The client first, then the observer."""
        now = monotonic()
        writer = self._writer
        if writer is not None:
            writer.feed(data)
        elif not self.delivered.is_set:
            self._hold(data)
        else:
            self._spend_allowance(len(data))
        self.last_byte_at = now  # for the writer it was that of the read before
        self._unread.append((data, now))
        size = self._unread_size = self._unread_size + len(data) + PER_READ
        if size > UNREAD:
            self.catch_up()

    def on_end(self, end: BodyEnd, last: bytes = b"") -> None:
        """The last bytes leave together with the end of the response."""
        if end is BodyEnd.CUT and self._connection is not None:
            self.broken_by = f"broken off: {self._connection.broken_by}"
        self._connection = None
        if last:
            self._unread.append((last, monotonic()))
            self._unread_size += len(last) + PER_READ
        if end is not BodyEnd.WHOLE:  # its events say whether it is complete
            self.catch_up()
        if self._writer is not None:
            self._end_response(self._writer, end, last)
        elif not self.delivered.is_set:
            self._early += last
            self._early_end = end
        self.catch_up()
        self._finish(end)

    def on_chunk(self, framed: bytes, data: bytes) -> None:
        """As `on_body`, for bytes that a writer with `feed_chunk` may send as they came."""
        now = monotonic()
        self.last_byte_at = now
        if self._feed_chunk is not None:
            self._feed_chunk(framed, len(data))
        self._unread.append((data, now))
        size = self._unread_size = self._unread_size + len(data) + PER_READ
        if size > UNREAD:
            self.catch_up()

    def _hold(self, data: bytes) -> None:
        """Keep it until there is a writer, which takes an iteration of the loop; read little more meanwhile."""
        self._early += data
        self._early_reads += 1
        if self._early_reads == MOST_EARLY and self._connection is not None:
            self._is_held = True
            self._connection.pause_reading()

    def on_failure(self, error: GatewayError | UnansweredError) -> None:
        """A request that may be sent again does not end the call: `send` decides."""
        self._connection = None
        self.head.fail(error)
        if isinstance(error, UpstreamUnreachable):
            self.connector.lost(error.cause)
        if isinstance(error, GatewayError):
            self._finish(error)
        elif self.delivered.is_set:
            self._finish(UpstreamUnreachable(CLOSED_EARLY, error.cause))

    # -- the client --------------------------------------------------------------------------------

    def attach(self, writer: ResponseWriter) -> None:
        """Send the body to this writer from now on; what came with the head goes first."""
        if self.delivered.is_set:
            writer.terminate("" if self.terminated_by is None else self.terminated_by.message)
            return
        self._writer = writer
        if (feed_chunk := writer.feed_chunk) is not None and self._connection is not None:
            self._feed_chunk = feed_chunk
            self._connection.on_chunk = self.on_chunk
        early, self._early = self._early, b""
        if self._early_end is not None:
            self._end_response(writer, self._early_end, early)
            return
        if early:
            writer.feed(early)
        if self._is_held:
            self._is_held = False
            if not self._is_client_paused:
                self._resume()

    def skip_body(self) -> None:
        """The response has no body."""
        self._set_delivered()
        self._resume()

    def detach(self) -> None:
        """The client is gone: from now on the reply is read for the observer only. Ignored once delivered."""
        if self.delivered.is_set:
            return
        self._set_delivered()
        if self.is_over:
            return
        self._listener.on_client_left()
        if self._connection is None or not self.is_sent:
            self.close(UpstreamUnreachable("The client left before its request was sent."))
        else:
            self._resume()

    def on_client_paused(self) -> None:
        """The client reads too slowly, so Flowise is not read either."""
        if self._connection is not None and not self.delivered.is_set:
            self._is_client_paused = True
            self.deadlines.pause()
            self._connection.pause_reading()
            self._listener.on_client_paused()

    def on_client_resumed(self) -> None:
        if self._is_client_paused:
            self._resume()

    # -- time and ends -----------------------------------------------------------------------------

    def tick(self, now: float) -> float:
        """Check the deadlines; return when to look again. Both are monotonic seconds."""
        again = now if self._writer is None else self._writer.tick(now)
        if not self.deadlines.is_first_event_seen:
            self.catch_up()
        if self._connection is not None and not self.head.is_set:
            self.deadlines.sending(*self._connection.sending, now)
        self.deadlines.last_byte_at = max(self.last_byte_at, self.deadlines.last_byte_at)
        if self._is_throttled:
            self._refill_allowance(now)
        if not self.is_over and (deadline := self.deadlines.passed(now)) is not None:
            if deadline is Deadline.HEAD:
                self.connector.lost(NO_HEAD)
            self._listener.on_deadline(deadline)
        return now if self._writer is None else min(again, self.deadlines.next)

    def terminate(self, error: GatewayError) -> None:
        """Fail the pending head, or end the response with the error's message. The reply is still read."""
        self.head.fail(error)
        self.terminated_by = error
        if self._writer is not None and not self.delivered.is_set:
            self._writer.terminate(error.message)
        self._set_delivered()
        self._resume()

    def close(self, end: BodyEnd | GatewayError = BodyEnd.CUT) -> None:
        """Drop the connection; the reply is over."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self.head.fail(
            end if isinstance(end, GatewayError) else UpstreamUnreachable("The request was given up.")
        )
        self.catch_up()
        self._set_delivered()
        self._finish(end)

    def catch_up(self) -> None:
        unread, observer = self._unread, self.observer
        self._unread = []
        self.bytes_in += self._unread_size - PER_READ * len(unread)
        self._unread_size = 0
        if observer is not None:
            for data, now in unread:
                observer.feed(data, now)
            if observer.first_event_at is not None:
                self.deadlines.is_first_event_seen = True

    def _spend_allowance(self, size: int) -> None:
        self._allowance -= size
        if self._allowance < 0 and self._connection is not None:
            self._is_throttled = True
            self.deadlines.pause()
            self._connection.pause_reading()

    def _refill_allowance(self, now: float) -> None:
        grown = self._allowance + UNATTENDED_RATE * (now - self._allowed_at)
        self._allowance, self._allowed_at = min(grown, UNATTENDED_BURST), now
        if self._allowance >= 0:
            self._is_throttled = False
            self._resume()

    def _resume(self) -> None:
        self._is_client_paused = False
        self.deadlines.resume(monotonic())
        if self._connection is not None:
            self._connection.resume_reading()

    def _end_response(self, writer: ResponseWriter, end: BodyEnd, last: bytes) -> None:
        if self.delivered.is_set:
            return
        writer.end(end, last, is_complete=self.observer is not None and self.observer.has_end)
        self._set_delivered()

    def _set_delivered(self) -> None:
        self._writer = self._feed_chunk = None
        if self._connection is not None:
            self._connection.on_chunk = None
        self._allowance, self._allowed_at = UNATTENDED_BURST, monotonic()
        self._early = b""
        self.delivered.set(None)

    def _finish(self, end: BodyEnd | GatewayError) -> None:
        if not self.is_over:
            self.is_over = True
            self.connector.gave_up()
            self._listener.on_over(end)
            # nothing more is reported; the two would hold each other, and all of the request, until a collection
            del self._listener
