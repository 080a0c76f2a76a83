"""Two ways to pass a body on: event by event (`EventStreamWriter`), or as it comes (`RawWriter`).

An outlet decides what may leave now and what is said when the body broke off. It does not know where the
bytes come from, nor what they mean: the caller tells it whether the answer was already complete.
"""

from __future__ import annotations

from typing import Protocol

from gateway.flowise.event_filter import EventFilter
from gateway.http.sse import EventBoundaries
from gateway.relay.client import ClientStream
from gateway.upstream.response_parser import BodyEnd


class ResponseWriter(Protocol):
    """What a call needs of the client's side."""

    def feed(self, data: bytes) -> None:
        """Body bytes of one read; what may leave leaves now."""

    def end(self, end: BodyEnd, *, is_complete: bool) -> None:
        """The body ended; `is_complete`: its last event had been seen."""

    def tell(self, message: str) -> None:
        """Nothing more will come, for this reason."""

    def tick(self, now: float) -> None:
        """Time passes. `now`: monotonic seconds."""


class ErrorTail(Protocol):
    """How a stream is completed that broke off: the bytes of an error event and an end event."""

    def __call__(self, message: str) -> bytes:
        """All that is written after the last whole event."""


class RawWriter:
    """Passes a body that is no event stream on, byte for byte; a broken one is cut."""

    def __init__(self, client: ClientStream) -> None:
        self._client = client
        self.feed = client.write
        self.tick = client.tick

    def end(self, end: BodyEnd, *, is_complete: bool) -> None:  # noqa: ARG002 - a body has no last event
        """The body ended."""
        if end is BodyEnd.CUT:
            self._client.cut()

    def tell(self, message: str) -> None:  # noqa: ARG002 - there is no place for words in it
        """Nothing more will come."""
        self._client.cut()


class EventStreamWriter:
    """Passes whole events on, so that a heartbeat or an error always stands between two of them."""

    __slots__ = (
        "_boundaries",
        "_client",
        "_epilogue",
        "_heartbeat",
        "_heartbeat_after",
        "_sent",
        "_sent_at",
        "_withholding",
    )

    def __init__(
        self,
        client: ClientStream,
        error_tail: ErrorTail,
        *,
        withheld: frozenset[str] = frozenset(),
        heartbeat: tuple[bytes, float] = (b"", 0.0),
    ) -> None:
        self._client = client
        self._epilogue = error_tail
        self._boundaries = EventBoundaries()
        self._withholding = EventFilter(withheld) if withheld else None
        self._heartbeat, self._heartbeat_after = heartbeat
        self._sent = 0
        self._sent_at: float | None = None

    def feed(self, data: bytes) -> None:
        """Body bytes of one read; whole events leave at once, in one write."""
        ready = self._boundaries.feed(data)
        if self._withholding is not None:
            ready = self._withholding.feed(ready)
        if ready:
            self._client.write(ready)

    def end(self, end: BodyEnd, *, is_complete: bool) -> None:
        """The body ended: a clean one stays identical, a broken one is completed."""
        if end is BodyEnd.WHOLE or (end is BodyEnd.CLOSED and is_complete):
            self.feed_rest()
        elif self._is_inside_event:
            self._client.cut()
        elif not is_complete:
            self._client.write(self._epilogue("The answer broke off: the connection to Flowise was lost."))

    def tell(self, message: str) -> None:
        """Nothing more will come: say so between two events, or cut inside of one."""
        if self._is_inside_event:
            self._client.cut()
        else:
            self._client.write(self._epilogue(message))

    def tick(self, now: float) -> None:
        """Send a heartbeat if nothing was sent for so long; look after the client."""
        self._client.tick(now)
        if self._client.bytes_out != self._sent or self._sent_at is None:
            self._sent, self._sent_at = self._client.bytes_out, now
        elif (
            self._heartbeat_after
            and now - self._sent_at >= self._heartbeat_after
            and not self._is_inside_event
        ):
            self._client.write(self._heartbeat)
            self._sent, self._sent_at = self._client.bytes_out, now

    def feed_rest(self) -> None:
        """A tail without boundary at a clean end: the body stays what it was."""
        rest = self._boundaries.rest()
        if self._withholding is not None:
            rest = self._withholding.feed(rest)
        self._client.write(rest)

    @property
    def _is_inside_event(self) -> bool:
        if not self._boundaries.is_inside_event:
            return False
        return self._withholding is None or not self._withholding.is_dropping
