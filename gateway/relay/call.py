"""One request to Flowise and its reply, from the send until the reply ended, with or without a client.

The call is the sink of its connection. It resolves `head` for whoever waits, pushes the body into the outlet
of the client and the observer, watches the deadlines, and tells its owner three things: the client left, a
deadline passed, the reply is over. What those mean (abort, metering, a turn) is the owner's business.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from time import monotonic
from typing import Protocol

from gateway.aio import OneShot
from gateway.errors import GatewayError, UpstreamUnreachable
from gateway.relay.deadlines import Deadline, Deadlines
from gateway.relay.writers import ResponseWriter
from gateway.upstream.connection import Connection, StaleConnectionError
from gateway.upstream.headers import UpstreamRequest
from gateway.upstream.pool import Pool
from gateway.upstream.response_parser import BodyEnd, ResponseHead


class Observer(Protocol):
    """Who reads along."""

    @property
    def has_end(self) -> bool:
        """Whether the answer's last event was seen."""

    @property
    def first_event_at(self) -> float | None:
        """When the first event came that is not a comment."""

    def feed(self, data: bytes, now: float) -> None:
        """The body bytes of one read."""


class CallListener(Protocol):
    """Whom a call tells. All calls are synchronous."""

    def on_head(self, head: ResponseHead) -> None:
        """The reply begins; who wants to read along says so now."""

    def on_client_left(self) -> None:
        """Nobody reads the reply any more; it is still being received."""

    def on_deadline(self, deadline: Deadline) -> None:
        """Flowise took too long."""

    def on_over(self, end: BodyEnd | GatewayError) -> None:
        """The reply is over: how its body ended, or why there was no head. Said exactly once."""


UNREAD_PIECES = 16  # reads that the observer may be behind
UNREAD_BYTES = 4096  # a read above it is not put off


class Call:
    """The sink of one connection, and the watcher of one client."""

    __slots__ = (
        "_connection",
        "_early",
        "_early_end",
        "_is_client_paused",
        "_last_byte_at",
        "_outlet",
        "_owner",
        "_told",
        "_unread",
        "bytes_in",
        "deadlines",
        "delivered",
        "head",
        "is_over",
        "observer",
    )

    def __init__(self, owner: CallListener, deadlines: Deadlines) -> None:
        self._owner = owner
        self.deadlines = deadlines
        self.observer: Observer | None = None
        self._connection: Connection | None = None
        self._outlet: ResponseWriter | None = None
        self._early: list[bytes] = []
        self._early_end: BodyEnd | None = None
        self._told = ""
        self._is_client_paused = False
        self.head: OneShot[ResponseHead] = OneShot()
        self.delivered: OneShot[None] = OneShot()
        self.is_over = False
        self._unread: list[tuple[bytes, float]] = []
        self._last_byte_at = 0.0
        self.bytes_in = 0

    # -- the request -------------------------------------------------------------------------------

    async def send(self, pool: Pool, request: UpstreamRequest) -> ResponseHead:
        """Send the request, and wait for the head of the reply.

        A pooled connection that turns out dead before one byte came back never carried the request, so it goes out
        once more on a fresh one (unless its body is gone already).

        Raises:
            GatewayError: any of the ways in which there is no head.
        """
        is_upload = not isinstance(request.body, bytes)  # it could not be sent again, so it gets a fresh one
        try:
            try:
                return await self._send_on(await self._acquired(pool, fresh=is_upload), request)
            except StaleConnectionError:
                if is_upload or self.is_over or self.delivered.is_set:
                    error = UpstreamUnreachable("Flowise closed the connection before it answered.")
                    self.close(error)
                    raise error from None
            self._begin_again()
            return await self._send_on(await self._acquired(pool, fresh=True), request)
        except GatewayError as error:
            if not self.is_sent:
                self.close(error)
            raise

    async def _acquired(self, pool: Pool, *, fresh: bool) -> Connection:
        """A connection; who gives the call up meanwhile ends the wait for it.

        Raises:
            GatewayError: there is none, or why the call was given up.
        """
        with self.head.ending():
            return await pool.acquire(fresh=fresh)
        await self.head.wait()
        raise AssertionError("a call that was given up has no head")

    def _begin_again(self) -> None:
        self.head = OneShot()
        self.deadlines.sent_at = math.inf

    async def _send_on(self, connection: Connection, request: UpstreamRequest) -> ResponseHead:
        if self.head.is_set:  # given up while it waited for a connection
            connection.close()
            return await self.head.wait()
        self._connection = connection
        connection.start(request.method, request.encoded(), self)
        if isinstance(request.body, bytes):
            connection.finish_request()
        else:
            await self._send_pieces(connection, request.body)
        if connection.is_request_sent or connection.is_answered:
            self.deadlines.sent_at = monotonic()
        return await self.head.wait()

    async def _send_pieces(self, connection: Connection, pieces: AsyncIterator[bytes]) -> None:
        """Send the body as it comes; an early answer or the end of the call ends the wait for the client."""
        if self.head.is_set:
            return
        with self.head.ending():
            async for piece in pieces:
                if piece:
                    connection.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    await connection.drain()
            connection.write(b"0\r\n\r\n")
            connection.finish_request()

    @property
    def is_sent(self) -> bool:
        """Whether the whole request is on its way: from here on Flowise works on it."""
        return self.deadlines.sent_at <= monotonic()

    # -- Sink --------------------------------------------------------------------------------------

    def on_head(self, head: ResponseHead) -> None:
        """The reply begins; reading pauses until there is an outlet."""
        self.deadlines.head_at = self.deadlines.last_byte_at = monotonic()
        if self._connection is not None and not self.delivered.is_set:
            self._connection.pause_reading()
        self._owner.on_head(head)
        self.head.set(head)

    def on_body(self, data: bytes) -> None:
        """The body bytes of one read: to the client first, then to the observer."""
        now = monotonic()
        self._last_byte_at = now
        outlet = self._outlet
        if outlet is not None:
            outlet.feed(data)
        elif not self.delivered.is_set:
            self._early.append(data)
        unread = self._unread
        unread.append((data, now))
        if len(unread) >= UNREAD_PIECES or len(data) > UNREAD_BYTES:
            self._observe()

    def on_end(self, end: BodyEnd) -> None:
        """The reply is over."""
        self._connection = None
        self._observe()
        if self._outlet is not None:
            self._deliver(self._outlet, end)
        else:
            self._early_end = end
        self._over(end)

    def on_failure(self, error: GatewayError | StaleConnectionError) -> None:
        """There is no head. A stale connection is no end yet if somebody is there to send again."""
        self._connection = None
        self.head.fail(error)
        if isinstance(error, GatewayError):
            self._over(error)
        elif self.delivered.is_set:
            self._over(UpstreamUnreachable("Flowise closed the connection before it answered."))

    # -- the client --------------------------------------------------------------------------------

    def attach(self, outlet: ResponseWriter) -> None:
        """From now on the body goes there; what came with the head goes first."""
        if self.delivered.is_set:
            outlet.tell(self._told)
            return
        self._outlet = outlet
        for data in self._early:
            outlet.feed(data)
        self._early.clear()
        if self._early_end is not None:
            self._deliver(outlet, self._early_end)
        elif not self._is_client_paused:
            self._resume()

    def finish(self) -> None:
        """The client has all that it will get of the body: nothing."""
        self._deliver_nothing()
        self._resume()

    def leave(self) -> None:
        """The client is gone: what still comes is read for the observer only."""
        if self.delivered.is_set:
            return
        self._deliver_nothing()
        if self.is_over:
            return
        self._owner.on_client_left()
        if self._connection is None or not self.is_sent:
            self.close(UpstreamUnreachable("The client left before its request was sent."))
        else:
            self._resume()

    def tell(self, message: str) -> None:
        """End the client's answer with this sentence; the reply itself goes on being read."""
        self._told = message
        if self._outlet is not None and not self.delivered.is_set:
            self._outlet.tell(message)
        self._deliver_nothing()
        self._resume()

    def on_client_paused(self) -> None:
        """The client takes no more for now, so neither do we."""
        if self._connection is not None and not self.delivered.is_set:
            self._is_client_paused = True
            self.deadlines.pause()
            self._connection.pause_reading()

    def on_client_resumed(self) -> None:
        """The client takes more."""
        if self._is_client_paused:
            self._resume()

    def on_client_gone(self) -> None:
        """The client's transport is gone."""
        self.leave()

    # -- time and ends -----------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Look at the clocks. `now`: monotonic seconds."""
        if self._outlet is not None and not self.delivered.is_set:
            self._outlet.tick(now)
        if not self.deadlines.is_first_event_seen:
            self._observe()
        self.deadlines.last_byte_at = max(self._last_byte_at, self.deadlines.last_byte_at)
        if not self.is_over and (deadline := self.deadlines.passed(now)) is not None:
            self._owner.on_deadline(deadline)

    def fail(self, error: GatewayError) -> None:
        """Whoever waits for the head is told this instead; a head that still comes is nobody's."""
        self.head.fail(error)

    def close(self, end: BodyEnd | GatewayError = BodyEnd.CUT) -> None:
        """Drop the connection; the reply is over, whatever still would have come."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        given_up = UpstreamUnreachable("The request was given up.")
        self.head.fail(end if isinstance(end, GatewayError) else given_up)
        self._observe()
        self._deliver_nothing()
        self._over(end)

    def _observe(self) -> None:
        """Read along with what has passed: some reads at once cost a third of what each costs by itself."""
        unread, observer = self._unread, self.observer
        self._unread = []
        for data, _ in unread:
            self.bytes_in += len(data)
        if observer is not None:
            for data, now in unread:
                observer.feed(data, now)
            if observer.first_event_at is not None:
                self.deadlines.is_first_event_seen = True

    def _resume(self) -> None:
        self._is_client_paused = False
        self.deadlines.resume(monotonic())
        if self._connection is not None:
            self._connection.resume_reading()

    def _deliver(self, outlet: ResponseWriter, end: BodyEnd) -> None:
        if self.delivered.is_set:
            return
        outlet.end(end, is_complete=self.observer is not None and self.observer.has_end)
        self._deliver_nothing()

    def _deliver_nothing(self) -> None:
        self._outlet = None
        self._early.clear()
        self.delivered.set(None)

    def _over(self, end: BodyEnd | GatewayError) -> None:
        if not self.is_over:
            self.is_over = True
            self._owner.on_over(end)
